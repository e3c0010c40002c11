"""What scenarios show of a mutant, gathered until its fate is known."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from tools.errors import one_line
from tools.mutation.fields import INTERFACE
from tools.mutation.model import Mutant, Place
from tools.mutation.orders import Fate
from traces.targets.sglang.errors import StageError
from traces.verdict import Cause

# What a mutant raises that a reviewer sees at once: it proves nothing about the net.
_AT_ONCE = ("TypeError", "NameError", "UnboundLocalError", "AttributeError", "ImportError")
_LOUD_AFTER = 7
"""Scenarios that a mutant may end, and none run to the end, before it counts as loud."""


class Showing(msgspec.Struct, frozen=True, kw_only=True):
    """What one scenario shows of a mutant.

    Attributes:
        ended: how it failed where the code as it is does not; empty when it ran to the end.
        causes: the first, if any.
        same_state: whether what is left is what the code as it is leaves.
        raised: why it could not be played at all.
    """

    ended: str = ""
    causes: tuple[Cause, ...] = ()
    fields: tuple[str, ...] = ()
    same_state: bool = False
    raised: str = ""

    @property
    def kills(self) -> bool:
        """Whether it ran to the end and differs in behaviour."""
        return (
            not self.ended
            and not self.raised
            and bool(self.causes)
            and self.causes[0].level == "behaviour"
        )


class Trial:
    """Gathers what scenarios show of a mutant until its fate is known.

    Args:
        mutant: whose fate.
        more: scenarios after the first kill whose differing fields are gathered as well, as long as
            one field alone differs.
        look: looks again at the first cause of the scenario that kills.
    """

    def __init__(self, mutant: Mutant, *, more: int, look: Callable[[str, Cause], Cause]) -> None:
        self._look = look
        self._mutant = mutant
        self._more = more
        self._played = 0
        self._ended = 0
        self._loud = ""
        self._other_state = ""
        self._killer: tuple[str, Cause] | None = None
        self._fields: frozenset[str] = frozenset()

    def over(self, showings: "Iterator[tuple[str, Showing]]") -> Fate:
        """Return the fate."""
        left = self._more
        for name, showing in showings:
            self._played += 1
            if self._killer is not None:
                left -= 1
            self._take(name, showing)
            is_alone = len(self._fields - INTERFACE) == 1
            if self._killer is not None and (left <= 0 or not is_alone):
                break
            if self._killer is None and self._is_loud():
                break
        return self._fate()

    def _is_loud(self) -> bool:
        return self._loud.startswith(_AT_ONCE) or self._ended >= _LOUD_AFTER

    def _take(self, name: str, showing: Showing) -> None:
        if showing.kills:
            self._killer = self._killer or (name, showing.causes[0])
            self._fields |= frozenset(showing.fields)
        else:
            ended = showing.ended or showing.raised
            self._loud = self._loud or ended
            self._ended += bool(ended)
            if not ended and not showing.same_state:
                self._other_state = self._other_state or name

    def _unkilled(self) -> str:
        if self._loud:
            return "loud"
        return "survived" if self._other_state else "equivalent"

    def _fate(self) -> Fate:
        mutant = self._mutant
        fate = Fate(
            id=mutant.id,
            operator=mutant.operator,
            key=mutant.key,
            label=mutant.label,
            verdict=self._unkilled(),
            headline=self._loud,
            played=self._played,
            proof=self._other_state or "state",
        )
        if self._killer is None:
            return fate
        name, first = self._killer
        look = ""
        try:
            cause = self._look(name, first)
        except Exception as error:  # noqa: BLE001 - a mutant may not end when it is logged
            cause, look = first, f"failed: {words(error)}"
        return msgspec.structs.replace(
            fate,
            verdict="killed",
            look=look or ("" if cause is first else first.headline()),
            proof="",
            cause=str(cause.kind),
            headline=cause.headline(),
            right_line=points_at(mutant.places, cause),
            right_function=points_at(mutant.functions, cause),
            right_parameter=names_parameter(mutant, cause),
            has_parameter=bool(mutant.parameters),
            fields=tuple(sorted(self._fields)),
            scenario=name,
        )


def points_at(places: Iterable[Place], cause: Cause) -> bool:
    """Tell whether a cause lies at one of some places."""
    line = cause.location
    return line is not None and any(place.holds(line.file, line.line) for place in places)


def names_parameter(mutant: Mutant, cause: Cause) -> bool:
    """Tell whether a cause names a parameter that the mutant changed, if it changed one."""
    named = (cause.parameter or "").split(".")
    return not mutant.parameters or any(name in named for name in mutant.parameters)


def words(error: Exception) -> str:
    """Return an exception as one line."""
    if isinstance(error, StageError):
        return one_line(f"died: {error}")
    return one_line(f"{type(error).__name__}: {error}")
