"""The worker's side of a campaign: judges one mutant after the other, each in copies of itself."""

import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil

from tools.errors import one_line
from tools.mutation.baseline import read_baseline
from tools.mutation.fields import differing_fields
from tools.mutation.orders import (
    Baseline,
    Compare,
    Comparison,
    Fate,
    Judge,
    Load,
    Order,
    Rehearsal,
    Rehearse,
)
from tools.mutation.players import COPIES, NativePlayer, Player, SglangPlayer
from tools.mutation.reach import watched
from tools.mutation.replays import Replay
from tools.mutation.trial import Showing, Trial, words
from traces.diff import compare_sides
from traces.divergence import CallLog, LineLog, second_look
from traces.targets.sglang.errors import Unplayable
from traces.targets.sglang.isolation import in_copy
from traces.verdict import Cause

MEMORY_LIMIT = 4 << 30
"""Bytes that a copy may ask for on top of what it starts with."""

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
        self._baseline = Baseline(scenarios={}, recordings={}, states={})
        self._logs: dict[tuple[str, str], dict[tuple[str, int] | None, CallLog | LineLog]] = {}

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
            case Compare():
                return self._compared(order)

    def _rehearsed(self, order: Rehearse) -> Rehearsal:
        def played() -> tuple[bytes, str, Mapping[str, frozenset[int]]]:
            _silence()
            self._player.put_in({})
            with watched(self._root, order.files) as reached:
                recording, state = self._player.play(order.scenario, device=order.device)
            lines = {file: frozenset(lines) for file, lines in reached.items() if lines}
            return msgspec.msgpack.encode(recording), state, lines

        start = time.perf_counter()
        name = order.scenario.name
        try:
            recording, state, reached = in_copy(played)
        except Unplayable as error:
            reason = str(error)
            return Rehearsal(
                name=name, recording=b"", state="", reached={}, seconds=0.0, reason=reason
            )
        return Rehearsal(
            name=name,
            recording=recording,
            state=state,
            reached=reached,
            seconds=time.perf_counter() - start,
            reason="",
        )

    def _judged(self, order: Judge) -> Fate:
        start = time.perf_counter()
        trial = Trial(order.mutant, more=order.more, look=partial(self._looked, order))
        fate = trial.over(self._played_one_by_one(order))
        return msgspec.structs.replace(fate, seconds=round(time.perf_counter() - start, 3))

    def _looked(self, order: Judge, name: str, cause: Cause) -> Cause:
        """Look again at a difference, on the code as it is and on the mutant."""
        base = Replay(partial(self._replayed, order, {}), root=self._root, texts={})
        base.known = self._logs.setdefault((order.device, name), {})
        head = Replay(
            partial(self._replayed, order, order.mutant.texts),
            root=self._root,
            texts=order.mutant.texts,
        )
        return second_look(base, head, cause, scenario=name)

    def _replayed(
        self, order: Judge, texts: Mapping[str, str], name: str, call: tuple[str, int] | None
    ) -> CallLog | LineLog:
        def replayed() -> CallLog | LineLog:
            self._player.put_in(texts)
            return self._player.replay(
                self._baseline.scenarios[name], device=order.device, call=call
            )

        return self._in_copy(replayed, order)

    def _played_one_by_one(self, order: Judge) -> "Iterator[tuple[str, Showing]]":
        for name in order.names:
            try:
                yield name, self._in_copy(partial(self._shown, order, name), order)
            except Exception as error:  # noqa: BLE001 - a mutant may raise and die as it likes
                yield name, Showing(raised=words(error))

    def _shown(self, order: Judge, name: str) -> "Showing":
        base = self._baseline.recordings[order.device, name]
        self._player.put_in(order.mutant.texts)
        head, state = self._player.play(self._baseline.scenarios[name], device=order.device)
        causes = compare_sides({name: base}, {name: head})
        failure = head.trace.outcome.failure
        ended = failure is not None and failure != base.trace.outcome.failure
        fields = tuple(sorted(differing_fields(base.trace, head.trace))) if causes else ()
        return Showing(
            ended=one_line(f"{failure.type}: {failure.message}") if failure and ended else "",
            causes=causes[:1],
            fields=fields,
            same_state=bool(state) and self._baseline.states.get((order.device, name)) == state,
        )

    def _compared(self, order: Compare) -> Comparison:
        """Refactor, play, and return the headlines of all differences of behaviour."""
        # Only this kind of order needs LibCST.
        from tools.mutation.neutral.rewrites import REWRITES
        from tools.mutation.neutral.steps import applied_stack

        sources = {file: (self._root / file).read_text(encoding="utf-8") for file in order.files}
        found = applied_stack(sources, order.steps, REWRITES)

        def told() -> tuple[str, ...]:
            self._player.put_in_anew({**found.texts, **order.texts})
            return tuple(
                cause.headline()
                for name in order.names
                for cause in self._causes_of(name, device=order.device)
                if cause.level == "behaviour"
            )

        try:
            differences = self._in_copy(told, order)
        except Exception as error:  # noqa: BLE001 - whatever a refactor breaks is a difference
            differences = (f"raised {words(error)}",)
        done = tuple((step.kind, file) for step, file in found.done)
        return Comparison(done=done, differences=differences)

    def _causes_of(self, name: str, *, device: str) -> tuple[Cause, ...]:
        head, _ = self._player.play(self._baseline.scenarios[name], device=device)
        return compare_sides({name: self._baseline.recordings[device, name]}, {name: head})

    def _in_copy(self, work: Callable[[], _Found], order: Judge | Compare) -> _Found:
        def limited() -> _Found:
            _silence()
            _limit_memory()
            # The default action ends the copy, in whatever loop it is.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, order.limit_seconds)
            return work()

        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            os.environ[COPIES] = folder
            return in_copy(limited)


class NativeMutants(MutantStage):
    """Judges mutants of this repository's ``assembler``."""

    def __init__(self, root: Path) -> None:
        super().__init__(NativePlayer(root), root)


class SglangMutants(MutantStage):
    """Judges mutants of the sglang under a root."""

    def __init__(self, root: Path) -> None:
        super().__init__(SglangPlayer(root), root)


def _silence() -> None:
    """Send what played code prints and logs nowhere: there are thousands of copies."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _limit_memory() -> None:
    """Let a mutant that asks for too much fail alone."""
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_LIMIT, used + MEMORY_LIMIT))
