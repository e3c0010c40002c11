"""The worker process of a campaign: runs each mutant in forks of itself."""

import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias, TypeVar

import msgspec
import psutil

from tools.errors import one_line
from tools.mutation.campaign.tasks import (
    BaselineResult,
    LoadBaseline,
    MutantResult,
    NeutralStackResult,
    RunBaseline,
    RunMutant,
    RunNeutralStack,
    RunSettings,
)
from tools.mutation.source.outside import OutsideNames, names_by_file, names_outside
from tools.mutation.trace_fields import differing_fields
from tools.mutation.worker.mutant_run import (
    MutantRun,
    ScenarioOutcome,
    describe_error,
    unjudged_result,
)
from tools.mutation.worker.runners import (
    COPIES_VARIABLE,
    MutantRunner,
    NativeMutantRunner,
    SglangMutantRunner,
    SglangReimportRunner,
)
from tools.workers.protocol import Handlers
from traces.diff import compare_sides
from traces.divergence.locate import locate_divergence
from traces.divergence.logs import CallLog, CallsRequest, LineLog, LinesRequest, LogRequest
from traces.recording.frame_hooks import trace_frames
from traces.schema.model import Recording
from traces.schema.verdict import Cause
from traces.targets.common.errors import ForkError
from traces.targets.common.fork import run_in_fork
from traces.targets.sglang.errors import UnsupportedByRelease

MEMORY_LIMIT = 4 << 30
"""Bytes that a fork may allocate on top of what it starts with."""

IMPORT_MEMORY_LIMIT = 4 * MEMORY_LIMIT
"""The same for a fork that imports a release, whose libraries take up addresses as well."""

_Found = TypeVar("_Found")
_Log: TypeAlias = CallLog | LineLog
_Logs: TypeAlias = dict[tuple[str, LogRequest], _Log]


@dataclass(frozen=True, slots=True, kw_only=True)
class MutantReplay:
    """One side of a mutant, run again with its calls logged.

    Attributes:
        run: runs a scenario and logs its calls, or the lines of one call.
        texts: mutated files.
        changed: the files of which a side has mutated ones.
        logs: by scenario and request.
    """

    run: Callable[[str, LogRequest], _Log]
    root: Path
    texts: Mapping[str, str]
    changed: tuple[str, ...]
    logs: _Logs = field(default_factory=dict)

    def calls(self, scenario: str, request: CallsRequest) -> CallLog:
        """Run a scenario and log its calls."""
        found = self._log(scenario, request)
        assert isinstance(found, CallLog)
        return found

    def lines(self, scenario: str, request: LinesRequest) -> LineLog:
        """Run a scenario and log the lines of one call."""
        found = self._log(scenario, request)
        assert isinstance(found, LineLog)
        return found

    def files(self) -> tuple[str, ...]:
        """Return the mutated files."""
        return self.changed

    def source(self, file: str) -> str | None:
        """Return the text of a file, mutated or unchanged; None for none."""
        if file in self.texts:
            return self.texts[file]
        path = self.root / file
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def _log(self, scenario: str, request: LogRequest) -> _Log:
        if (scenario, request) not in self.logs:
            self.logs[scenario, request] = self.run(scenario, request)
        return self.logs[scenario, request]


class MutationWorker:
    """Answers the tasks of a campaign about the target under a root."""

    def __init__(self, runner: MutantRunner, root: Path) -> None:
        self._runner = runner
        self._root = root
        self._baseline = LoadBaseline(scenarios={}, results={})
        self._names: dict[str, OutsideNames] = {}

    @property
    def handlers(self) -> Handlers:
        """The task types this class handles."""
        return {
            LoadBaseline: self._load_baseline,
            RunBaseline: self._run_baseline,
            RunMutant: self._run_mutant,
            RunNeutralStack: self._run_neutral_stack,
        }

    def _load_baseline(self, task: LoadBaseline) -> int:
        self._baseline = task
        return len(task.results)

    def _run_baseline(self, task: RunBaseline) -> BaselineResult:
        def run() -> BaselineResult:
            _silence_output()
            self._runner.install({}, validates=task.settings.is_gate)
            with _record_executed_lines(self._root, task.files) as reached:
                device = task.settings.device
                recording, state = self._runner.run_scenario(task.scenario, device=device)
            return BaselineResult(
                name=task.scenario.name,
                recording=msgspec.msgpack.encode(recording),
                state=state,
                reached={file: frozenset(lines) for file, lines in reached.items() if lines},
                seconds=time.perf_counter() - start,
            )

        start = time.perf_counter()
        try:
            return run_in_fork(run)
        except (UnsupportedByRelease, ForkError) as error:
            return BaselineResult(name=task.scenario.name, reached={}, reason=str(error))

    def _run_mutant(self, task: RunMutant) -> MutantResult:
        start = time.perf_counter()
        if refusal := self._runner.refusal(task.mutant.texts):
            return unjudged_result(task.mutant, refusal)
        run = MutantRun(
            task.mutant, refine=partial(self._refine_cause, task), is_gate=task.settings.is_gate
        )
        result = run.collect(self._run_scenarios(task))
        return msgspec.structs.replace(result, seconds=round(time.perf_counter() - start, 3))

    def _refine_cause(self, task: RunMutant, name: str, cause: Cause) -> Cause:
        """Look for the first different call or line of the unchanged code and the mutant."""
        texts = task.mutant.texts
        base = MutantReplay(
            run=partial(self._log_run, task, {}),
            root=self._root,
            texts={},
            changed=tuple(texts),
        )
        head = MutantReplay(
            run=partial(self._log_run, task, texts),
            root=self._root,
            texts=texts,
            changed=tuple(texts),
        )
        return locate_divergence(base, head, cause, scenario=name)

    def _log_run(
        self, task: RunMutant, texts: Mapping[str, str], name: str, request: LogRequest
    ) -> _Log:
        def run() -> _Log:
            self._runner.install(texts, validates=task.settings.is_gate)
            scenario = self._baseline.scenarios[name]
            return self._runner.log_run(scenario, device=task.settings.device, request=request)

        return _run_limited(run, task.settings)

    def _run_scenarios(self, task: RunMutant) -> Iterator[tuple[str, ScenarioOutcome]]:
        for name in task.names:
            try:
                yield name, _run_limited(partial(self._run_scenario, task, name), task.settings)
            except Exception as error:  # noqa: BLE001 - a mutant may raise anything, or die
                yield name, ScenarioOutcome(raised=describe_error(error))

    def _run_scenario(self, task: RunMutant, name: str) -> ScenarioOutcome:
        self._runner.install(task.mutant.texts, validates=task.settings.is_gate)
        base, head, state = self._run_beside_baseline(name, task.settings)
        causes = compare_sides({name: base}, {name: head})
        failure = head.trace.outcome.failure
        is_new = failure is not None and failure != base.trace.outcome.failure
        fields = tuple(sorted(differing_fields(base.trace, head.trace))) if causes else ()
        before = self._baseline.results[name].state
        error = one_line(f"{failure.type}: {failure.message}") if failure and is_new else ""
        return ScenarioOutcome(
            new_failure=error,
            causes=causes[:1],
            fields=fields,
            same_state=bool(state) and before == state,
            other_state=bool(state) and bool(before) and before != state,
        )

    def _run_neutral_stack(self, task: RunNeutralStack) -> NeutralStackResult:
        # Only this kind of task needs LibCST.
        from tools.mutation.neutral.refactor_stack import apply_stack

        sources = {file: (self._root / file).read_text(encoding="utf-8") for file in task.files}
        found = apply_stack(sources, task.steps, outside=self._names_outside(task.files))

        def run() -> tuple[str, ...]:
            self._runner.install_by_reimport({**found.texts, **task.texts}, validates=False)
            headlines = []
            for name in task.names:
                base, head, _ = self._run_beside_baseline(name, task.settings)
                causes = compare_sides({name: base}, {name: head})
                headlines += [one.headline() for one in causes if one.level == "behaviour"]
            return tuple(headlines)

        try:
            differences = _run_limited(run, task.settings, memory=IMPORT_MEMORY_LIMIT)
        except Exception as error:  # noqa: BLE001 - everything that a refactor breaks is a difference
            differences = (f"raised {describe_error(error)}",)
        done = tuple((step.kind, file) for step, file in found.done)
        return NeutralStackResult(done=done, differences=differences)

    def _names_outside(self, files: Sequence[str]) -> OutsideNames:
        """Return what other files of the same packages define and name."""
        if not self._names:
            packages = {file.partition("/")[0] for file in files}
            self._names = names_by_file(self._root, packages)
        return names_outside(self._names, files)

    def _run_beside_baseline(
        self, name: str, settings: RunSettings
    ) -> tuple[Recording, Recording, str]:
        """Return the recordings of the unchanged and of the installed code, and the state left."""
        scenario = self._baseline.scenarios[name]
        head, state = self._runner.run_scenario(scenario, device=settings.device)
        base = msgspec.msgpack.decode(self._baseline.results[name].recording, type=Recording)
        return base, head, state


class NativeMutationWorker(MutationWorker):
    """Runs mutants of this repository's ``assembler``."""

    def __init__(self, root: Path) -> None:
        super().__init__(NativeMutantRunner(root), root)


class SglangMutationWorker(MutationWorker):
    """Runs mutants of the sglang under a root."""

    def __init__(self, root: Path) -> None:
        super().__init__(SglangMutantRunner(root), root)


class SglangRefactorWorker(MutationWorker):
    """Runs stacks of refactors of the sglang under a root."""

    def __init__(self, root: Path) -> None:
        super().__init__(SglangReimportRunner(root), root)


@contextmanager
def _record_executed_lines(root: Path, files: Iterable[str]) -> Iterator[dict[str, set[int]]]:
    """Yield the lines of some files that any thread has executed so far, by path under the root."""
    reached: dict[str, set[int]] = {file: set() for file in files}
    by_path = {str(root / file): lines for file, lines in reached.items()}

    def trace(frame: FrameType, _event: str, _argument: object) -> Any:  # noqa: ANN401
        lines = by_path.get(frame.f_code.co_filename)
        if lines is None:
            return None
        lines.add(frame.f_lineno)
        return trace

    with trace_frames(trace):
        yield reached


def _run_limited(
    work: Callable[[], _Found], settings: RunSettings, *, memory: int = MEMORY_LIMIT
) -> _Found:
    def limited() -> _Found:
        _silence_output()
        _limit_memory(memory)
        # The default action ends the fork inside any loop, that of a C function included.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, settings.limit_seconds)
        return work()

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ[COPIES_VARIABLE] = folder
        return run_in_fork(limited)


def _silence_output() -> None:
    """Discard what scenarios print and log: there are thousands of forks."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _limit_memory(more: int) -> None:
    """Let a mutant that allocates ``more`` bytes of addresses fail alone."""
    limit = psutil.Process().memory_info().vms + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
