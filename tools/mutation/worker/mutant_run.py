"""What scenarios show of a mutant, gathered until its fate is known."""

from collections.abc import Callable, Iterable, Iterator

import msgspec

from tools.errors import one_line
from tools.mutation.campaign.tasks import MutantResult
from tools.mutation.mutant import LineRange, Mutant
from tools.mutation.trace_fields import INTERFACE_FIELDS
from traces.schema.verdict import Cause
from traces.targets.common.errors import ForkError

# What a mutant raises that a reviewer sees at once: it proves nothing about the net.
_LOUD_ERRORS = ("TypeError", "NameError", "UnboundLocalError", "AttributeError", "ImportError")
_LOUD_AFTER = 7
"""Scenarios that a mutant may end, and none run to the end, before it counts as loud."""


class ScenarioOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one scenario shows of a mutant.

    Attributes:
        ended: how it failed where the code as it is does not; empty when it ran to the end.
        causes: the first, if any.
        same_state: whether what is left is what the code as it is leaves.
        raised: why it could not be played at all.
    """

    new_failure: str = ""
    causes: tuple[Cause, ...] = ()
    fields: tuple[str, ...] = ()
    same_state: bool = False
    raised: str = ""

    @property
    def kills(self) -> bool:
        """Whether it ran to the end and differs in behaviour."""
        return (
            not self.new_failure
            and not self.raised
            and bool(self.causes)
            and self.causes[0].level == "behaviour"
        )


class MutantRun:
    """Gathers what scenarios show of a mutant until its fate is known.

    Args:
        mutant: whose fate.
        more: scenarios after the first kill whose differing fields are gathered as well, as long as
            one field alone differs.
        look: looks again at the first cause of the scenario that kills.
    """

    def __init__(
        self, mutant: Mutant, *, scenarios_after_kill: int, look: Callable[[str, Cause], Cause]
    ) -> None:
        self._look = look
        self._mutant = mutant
        self._scenarios_after_kill = scenarios_after_kill
        self._played = 0
        self._failure_num = 0
        self._loud = ""
        self._other_state = ""
        self._killer: tuple[str, Cause] | None = None
        self._fields: frozenset[str] = frozenset()

    def collect(self, outcomes: "Iterator[tuple[str, ScenarioOutcome]]") -> MutantResult:
        """Return the fate."""
        left = self._scenarios_after_kill
        for name, showing in outcomes:
            self._played += 1
            if self._killer is not None:
                left -= 1
            self._add(name, showing)
            is_alone = len(self._fields - INTERFACE_FIELDS) == 1
            if self._killer is not None and (left <= 0 or not is_alone):
                break
            if self._killer is None and self._is_loud():
                break
        return self._result()

    def _is_loud(self) -> bool:
        return self._loud.startswith(_LOUD_ERRORS) or self._failure_num >= _LOUD_AFTER

    def _add(self, name: str, outcome: ScenarioOutcome) -> None:
        if outcome.kills:
            self._killer = self._killer or (name, outcome.causes[0])
            self._fields |= frozenset(outcome.fields)
        else:
            ended = outcome.new_failure or outcome.raised
            self._loud = self._loud or ended
            self._failure_num += bool(ended)
            if not ended and not outcome.same_state:
                self._other_state = self._other_state or name

    def _verdict_without_kill(self) -> str:
        if self._loud:
            return "loud"
        return "survived" if self._other_state else "equivalent"

    def _result(self) -> MutantResult:
        mutant = self._mutant
        fate = MutantResult(
            id=mutant.id,
            operator=mutant.operator,
            key=mutant.key,
            label=mutant.label,
            verdict=self._verdict_without_kill(),
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
            cause, look = first, f"failed: {describe_error(error)}"
        return msgspec.structs.replace(
            fate,
            verdict="killed",
            look=look or ("" if cause is first else first.headline()),
            proof="",
            cause=str(cause.kind),
            headline=cause.headline(),
            right_line=points_at(mutant.changed_ranges, cause),
            right_function=points_at(mutant.functions, cause),
            right_parameter=names_parameter(mutant, cause),
            has_parameter=bool(mutant.parameters),
            fields=tuple(sorted(self._fields)),
            scenario=name,
        )


def points_at(changed_ranges: Iterable[LineRange], cause: Cause) -> bool:
    """Tell whether a cause lies at one of some places."""
    line = cause.location
    return line is not None and any(
        place.contains(line.file, line.line) for place in changed_ranges
    )


def names_parameter(mutant: Mutant, cause: Cause) -> bool:
    """Tell whether a cause names a parameter that the mutant changed, if it changed one."""
    named = (cause.parameter or "").split(".")
    return not mutant.parameters or any(name in named for name in mutant.parameters)


def describe_error(error: Exception) -> str:
    """Return an exception as one line."""
    if isinstance(error, ForkError):
        return one_line(f"died: {error}")
    return one_line(f"{type(error).__name__}: {error}")
