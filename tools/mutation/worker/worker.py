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
from tools.mutation.campaign.baseline_file import read_baseline
from tools.mutation.campaign.tasks import (
    BaselineResult,
    LoadBaseline,
    MutantResult,
    MutationBaseline,
    NeutralStackResult,
    RunBaseline,
    RunMutant,
    RunNeutralStack,
)
from tools.mutation.trace_fields import differing_fields
from tools.mutation.worker.line_coverage import record_executed_lines
from tools.mutation.worker.mutant_run import MutantRun, ScenarioOutcome, describe_error
from tools.mutation.worker.replay import MutantReplay
from tools.mutation.worker.runners import (
    COPIES_VARIABLE,
    MutantRunner,
    NativeMutantRunner,
    SglangMutantRunner,
)
from tools.workers.protocol import Handlers
from traces.diff import compare_sides
from traces.divergence import CallLog, LineLog, locate_divergence
from traces.schema.verdict import Cause
from traces.targets.common.fork import run_in_fork
from traces.targets.sglang.errors import UnsupportedByRelease

MEMORY_LIMIT = 4 << 30
"""Bytes that a copy may ask for on top of what it starts with."""

_Found = TypeVar("_Found")


class MutationWorker:
    """Runs the orders of a campaign.

    Args:
        player: plays scenarios, in copies.
        root: directory that holds the target.
    """

    def __init__(self, runner: MutantRunner, root: Path) -> None:
        self._runner = runner
        self._root = root
        self._baseline = MutationBaseline(scenarios={}, recordings={}, states={})
        self._logs: dict[tuple[str, str], dict[tuple[str, int] | None, CallLog | LineLog]] = {}

    @property
    def handlers(self) -> Handlers:
        """The task types this class handles."""
        return {
            LoadBaseline: self._load_baseline,
            RunBaseline: self._run_baseline,
            RunMutant: self._run_mutant,
            RunNeutralStack: self._run_neutral_stack,
        }

    def _load_baseline(self, order: LoadBaseline) -> int:
        self._baseline = read_baseline(order.baseline)
        return len(self._baseline.recordings)

    def _run_baseline(self, order: RunBaseline) -> BaselineResult:
        def played() -> tuple[bytes, str, Mapping[str, frozenset[int]]]:
            _silence_output()
            self._runner.install({})
            with record_executed_lines(self._root, order.files) as reached:
                recording, state = self._runner.play(order.scenario, device=order.device)
            lines = {file: frozenset(lines) for file, lines in reached.items() if lines}
            return msgspec.msgpack.encode(recording), state, lines

        start = time.perf_counter()
        name = order.scenario.name
        try:
            recording, state, reached = run_in_fork(played)
        except UnsupportedByRelease as error:
            reason = str(error)
            return BaselineResult(
                name=name, recording=b"", state="", reached={}, seconds=0.0, reason=reason
            )
        return BaselineResult(
            name=name,
            recording=recording,
            state=state,
            reached=reached,
            seconds=time.perf_counter() - start,
            reason="",
        )

    def _run_mutant(self, order: RunMutant) -> MutantResult:
        start = time.perf_counter()
        trial = MutantRun(
            order.mutant,
            scenarios_after_kill=order.scenarios_after_kill,
            look=partial(self._refine_cause, order),
        )
        fate = trial.collect(self._run_scenarios(order))
        return msgspec.structs.replace(fate, seconds=round(time.perf_counter() - start, 3))

    def _refine_cause(self, order: RunMutant, name: str, cause: Cause) -> Cause:
        """Look again at a difference, on the code as it is and on the mutant."""
        base = MutantReplay(partial(self._log_run, order, {}), root=self._root, texts={})
        base.logs = self._logs.setdefault((order.device, name), {})
        head = MutantReplay(
            partial(self._log_run, order, order.mutant.texts),
            root=self._root,
            texts=order.mutant.texts,
        )
        return locate_divergence(base, head, cause, scenario=name)

    def _log_run(
        self, order: RunMutant, texts: Mapping[str, str], name: str, call: tuple[str, int] | None
    ) -> CallLog | LineLog:
        def replayed() -> CallLog | LineLog:
            self._runner.install(texts)
            return self._runner.log_run(
                self._baseline.scenarios[name], device=order.device, call=call
            )

        return self._run_in_fork(replayed, order)

    def _run_scenarios(self, order: RunMutant) -> "Iterator[tuple[str, ScenarioOutcome]]":
        for name in order.names:
            try:
                yield name, self._run_in_fork(partial(self._run_scenario, order, name), order)
            except Exception as error:  # noqa: BLE001 - a mutant may raise and die as it likes
                yield name, ScenarioOutcome(raised=describe_error(error))

    def _run_scenario(self, order: RunMutant, name: str) -> "ScenarioOutcome":
        base = self._baseline.recordings[order.device, name]
        self._runner.install(order.mutant.texts)
        head, state = self._runner.play(self._baseline.scenarios[name], device=order.device)
        causes = compare_sides({name: base}, {name: head})
        failure = head.trace.outcome.failure
        ended = failure is not None and failure != base.trace.outcome.failure
        fields = tuple(sorted(differing_fields(base.trace, head.trace))) if causes else ()
        return ScenarioOutcome(
            new_failure=one_line(f"{failure.type}: {failure.message}") if failure and ended else "",
            causes=causes[:1],
            fields=fields,
            same_state=bool(state) and self._baseline.states.get((order.device, name)) == state,
        )

    def _run_neutral_stack(self, order: RunNeutralStack) -> NeutralStackResult:
        """Refactor, play, and return the headlines of all differences of behaviour."""
        # Only this kind of order needs LibCST.
        from tools.mutation.neutral.refactor_stack import apply_stack

        sources = {file: (self._root / file).read_text(encoding="utf-8") for file in order.files}
        found = apply_stack(sources, order.steps)

        def told() -> tuple[str, ...]:
            self._runner.install_by_reimport({**found.texts, **order.texts})
            return tuple(
                cause.headline()
                for name in order.names
                for cause in self._causes_of(name, device=order.device)
                if cause.level == "behaviour"
            )

        try:
            differences = self._run_in_fork(told, order)
        except Exception as error:  # noqa: BLE001 - whatever a refactor breaks is a difference
            differences = (f"raised {describe_error(error)}",)
        done = tuple((step.kind, file) for step, file in found.done)
        return NeutralStackResult(done=done, differences=differences)

    def _causes_of(self, name: str, *, device: str) -> tuple[Cause, ...]:
        head, _ = self._runner.play(self._baseline.scenarios[name], device=device)
        return compare_sides({name: self._baseline.recordings[device, name]}, {name: head})

    def _run_in_fork(
        self, work: Callable[[], _Found], order: RunMutant | RunNeutralStack
    ) -> _Found:
        def limited() -> _Found:
            _silence_output()
            _limit_memory()
            # The default action ends the copy, in whatever loop it is.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, order.limit_seconds)
            return work()

        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            os.environ[COPIES_VARIABLE] = folder
            return run_in_fork(limited)


class NativeMutationWorker(MutationWorker):
    """Judges mutants of this repository's ``assembler``."""

    def __init__(self, root: Path) -> None:
        super().__init__(NativeMutantRunner(root), root)


class SglangMutationWorker(MutationWorker):
    """Judges mutants of the sglang under a root."""

    def __init__(self, root: Path) -> None:
        super().__init__(SglangMutantRunner(root), root)


def _silence_output() -> None:
    """Send what played code prints and logs nowhere: there are thousands of copies."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _limit_memory() -> None:
    """Let a mutant that asks for too much fail alone."""
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_LIMIT, used + MEMORY_LIMIT))
