"""The worker's side of a campaign: judges one mutant after the other, each in copies of itself."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from tools.errors import one_line
from tools.mutation.fields import INTERFACE, differing_fields
from tools.mutation.model import Mutant
from tools.mutation.orders import (
    Baseline,
    Compare,
    Fate,
    Fingerprints,
    Judge,
    Load,
    Order,
    Rehearsal,
    Rehearse,
)
from tools.mutation.players import NativePlayer, Player, SglangPlayer
from tools.mutation.reach import watched
from traces.diff import compare_sides
from traces.model import Recording
from traces.targets.sglang.errors import StageError, Unplayable
from traces.targets.sglang.isolation import in_copy
from traces.verdict import Cause

# What a mutant raises that a reviewer sees at once: it proves nothing about the net.
_AT_ONCE = ("TypeError", "NameError", "UnboundLocalError", "AttributeError", "ImportError")
_PLAY_IN_COPY_LIMIT = 3

_Found = TypeVar("_Found")


class MutantStage:
    """Runs the orders of a campaign.

    Args:
        player: plays scenarios, in copies.
        root: directory that holds the target.
    """

    def __init__(self, player: Player, root: Path) -> None:
        self._player = player
        self._root = root
        self._baseline = Baseline(scenarios={}, recordings={})

    def run(self, order: Order) -> object:
        """Do what the order says and return what came of it."""
        match order:
            case Load():
                self._baseline = read_baseline(order.baseline)
                return len(self._baseline.recordings)
            case Rehearse():
                return self._rehearsed(order)
            case Judge():
                return self._judged(order)
            case Fingerprints():
                return {name: self._state(order, name) for name in order.names}
            case Compare():
                return self._compared(order)

    def _rehearsed(self, order: Rehearse) -> Rehearsal:
        def played() -> tuple[bytes, Mapping[str, frozenset[int]]]:
            _silence()
            self._player.put_in({})
            with watched(self._root, order.files) as reached:
                recording = self._player.play(order.scenario, device=order.device)
            return msgspec.msgpack.encode(recording), {
                file: frozenset(lines) for file, lines in reached.items()
            }

        start = time.perf_counter()
        name = order.scenario.name
        try:
            recording, reached = in_copy(played)
        except Unplayable as error:
            return Rehearsal(name=name, recording=b"", reached={}, seconds=0.0, reason=str(error))
        return Rehearsal(
            name=name,
            recording=recording,
            reached=reached,
            seconds=time.perf_counter() - start,
            reason="",
        )

    def _judged(self, order: Judge) -> Fate:
        start = time.perf_counter()
        fate = Trial(order.mutant, more=order.more).over(self._played_one_by_one(order))
        return msgspec.structs.replace(fate, seconds=round(time.perf_counter() - start, 3))

    def _played_one_by_one(self, order: Judge) -> "Iterator[tuple[str, Showing]]":
        for name in order.names:
            try:
                yield name, self._in_copy(lambda name=name: self._shown(order, name), order)
            except Exception as error:  # noqa: BLE001 - a mutant may raise and die as it likes
                yield name, Showing(ended="", causes=(), fields=(), raised=_words(error))

    def _shown(self, order: Judge, name: str) -> "Showing":
        base = self._baseline.recordings[name]
        head = self._play(order.mutant.texts, name, device=order.device)
        causes = compare_sides({name: base}, {name: head})
        failed = head.trace.outcome
        failure = failed.failure if base.trace.outcome.ok else None
        fields = tuple(sorted(differing_fields(base.trace, head.trace))) if causes else ()
        return Showing(
            ended="" if failure is None else one_line(f"{failure.type}: {failure.message}"),
            causes=causes[:1],
            fields=fields,
            raised="",
        )

    def _state(self, order: Fingerprints, name: str) -> str:
        def played() -> str:
            self._player.put_in(order.texts)
            return self._player.state(self._baseline.scenarios[name], device=order.device)

        try:
            return self._in_copy(played, order)
        except Exception as error:  # noqa: BLE001 - what cannot be proven is not equivalent
            return f"raised {_words(error)}"

    def _compared(self, order: Compare) -> tuple[Cause, ...]:
        def causes_of(name: str) -> tuple[Cause, ...]:
            head = self._play(order.texts, name, device=order.device)
            return compare_sides({name: self._baseline.recordings[name]}, {name: head})

        found = (self._in_copy(lambda name=name: causes_of(name), order) for name in order.names)
        return tuple(cause for causes in found for cause in causes if cause.level == "behaviour")

    def _play(self, texts: Mapping[str, str], name: str, *, device: str) -> Recording:
        self._player.put_in(texts)
        return self._player.play(self._baseline.scenarios[name], device=device)

    def _in_copy(
        self, work: Callable[[], _Found], order: Judge | Fingerprints | Compare
    ) -> _Found:
        def limited() -> _Found:
            _silence()
            # The default action ends the copy, in whatever loop it is.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, order.limit_seconds)
            return work()

        return in_copy(limited)


class NativeMutants(MutantStage):
    """Judges mutants of this repository's ``assembler``."""

    def __init__(self, root: Path) -> None:
        super().__init__(NativePlayer(root), root)


class SglangMutants(MutantStage):
    """Judges mutants of the sglang under a root."""

    def __init__(self, root: Path) -> None:
        super().__init__(SglangPlayer(root), root)


class Showing(msgspec.Struct, frozen=True, kw_only=True):
    """What one scenario shows of a mutant.

    Attributes:
        ended: how it failed where the code as it is does not; empty when it ran to the end.
        causes: the first, if any.
        raised: why it could not be played at all.
    """

    ended: str
    causes: tuple[Cause, ...]
    fields: tuple[str, ...]
    raised: str

    @property
    def kills(self) -> bool:
        """Whether it ran to the end and differs in behaviour."""
        return not self.ended and bool(self.causes) and self.causes[0].level == "behaviour"


class Trial:
    """Gathers what scenarios show of a mutant until its fate is known.

    Args:
        mutant: whose fate.
        more: scenarios after the first kill whose differing fields are gathered as well, as long as
            one field alone differs.
    """

    def __init__(self, mutant: Mutant, *, more: int) -> None:
        self._mutant = mutant
        self._more = more
        self._played = 0
        self._loud = ""
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
            if self._killer is None and self._loud.startswith(_AT_ONCE):
                break
        return self._fate()

    def _take(self, name: str, showing: Showing) -> None:
        if showing.kills:
            self._killer = self._killer or (name, showing.causes[0])
            self._fields |= frozenset(showing.fields)
        else:
            self._loud = self._loud or showing.ended or showing.raised

    def _fate(self) -> Fate:
        mutant = self._mutant
        fate = Fate(
            id=mutant.id,
            operator=mutant.operator,
            key=mutant.key,
            label=mutant.label,
            verdict="loud" if self._loud else "survived",
            headline=self._loud,
            played=self._played,
        )
        if self._killer is None:
            return fate
        name, cause = self._killer
        return msgspec.structs.replace(
            fate,
            verdict="killed",
            cause=str(cause.kind),
            headline=cause.headline(),
            right_line=points_at(mutant, cause),
            right_parameter=names_parameter(mutant, cause),
            fields=tuple(sorted(self._fields)),
            scenario=name,
        )


def points_at(mutant: Mutant, cause: Cause) -> bool:
    """Tell whether a cause lies at a line that the mutant changed."""
    place = cause.location
    return place is not None and any(
        of_mutant.holds(place.file, place.line) for of_mutant in mutant.places
    )


def names_parameter(mutant: Mutant, cause: Cause) -> bool:
    """Tell whether a cause names a parameter that the mutant changed, if it changed one."""
    named = (cause.parameter or "").split(".")
    return not mutant.parameters or any(name in named for name in mutant.parameters)


def read_baseline(file: Path) -> Baseline:
    """Read what :func:`write_baseline` wrote."""
    import pickle

    scenarios, recordings = pickle.loads(file.read_bytes())  # noqa: S301 - our own file
    return Baseline(
        scenarios=scenarios,
        recordings={
            name: msgspec.msgpack.decode(recording, type=Recording)
            for name, recording in recordings.items()
        },
    )


def write_baseline(file: Path, *, scenarios: Mapping[str, object], plays: Sequence[Rehearsal]) -> None:
    """Write scenarios and recordings of the code as it is, for :class:`Load`."""
    import pickle

    recordings = {play.name: play.recording for play in plays if play.recording}
    file.write_bytes(pickle.dumps((dict(scenarios), recordings)))


def _silence() -> None:
    """Send what played code prints and logs nowhere: there are thousands of copies."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _words(error: Exception) -> str:
    if isinstance(error, StageError):
        return one_line(f"died: {error}")
    return one_line(f"{type(error).__name__}: {error}")
