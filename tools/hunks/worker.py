"""Worker classes that run the head with some of its hunks reverted, in forks of one process."""

import gc
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
from typing_extensions import override

from tools.mutation.worker.overlay import module_name_of, swap_code
from tools.workers.protocol import Handlers, Task
from traces.recording.frame_hooks import trace_frames
from traces.schema.model import Recording
from traces.targets.common.fork import run_in_fork
from traces.targets.common.scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class RunVariant(Task["dict[str, bytes] | None"]):
    """Run scenarios with other texts in the place of modules, and return the recordings by name.

    None when more than the bodies of functions differ: then it takes a process that imports the
    texts.

    Attributes:
        texts: by path under the root.
    """

    texts: Mapping[str, str]
    scenarios: tuple[Scenario, ...]
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListExecutedLines(Task[dict[str, frozenset[int]]]):
    """Run scenarios and return the lines that they execute, of the files that are then imported."""

    files: tuple[str, ...]
    scenarios: tuple[Scenario, ...]
    device: str


class VariantWorker:
    """Answers the tasks about the package under a root."""

    def __init__(self, root: Path) -> None:
        self._root = root
        gc.freeze()

    @property
    def handlers(self) -> Handlers:
        """The task types this class handles."""
        return {RunVariant: self._run_variant, ListExecutedLines: self._list_executed_lines}

    def record(self, scenario: Scenario, *, device: str) -> Recording:
        """Run one scenario in this process."""
        raise NotImplementedError

    def _run_variant(self, task: RunVariant) -> dict[str, bytes] | None:
        def run(scenario: Scenario) -> bytes | None:
            if not swap_code(self._root, task.texts):
                return None
            return msgspec.msgpack.encode(self.record(scenario, device=task.device))

        found: dict[str, bytes] = {}
        for scenario in task.scenarios:
            recording = run_in_fork(partial(run, scenario))
            if recording is None:
                return None
            found[scenario.name] = recording
        return found

    def _list_executed_lines(self, task: ListExecutedLines) -> dict[str, frozenset[int]]:
        executed: dict[str, set[int]] = {}
        for scenario in task.scenarios:
            work = partial(self._executed_lines, scenario, task.files, task.device)
            for file, own in run_in_fork(work).items():
                executed.setdefault(file, set()).update(own)
        return {file: frozenset(lines) for file, lines in executed.items()}

    def _executed_lines(
        self, scenario: Scenario, files: Sequence[str], device: str
    ) -> dict[str, set[int]]:
        with _executed_lines_of(self._root, files) as lines:
            self.record(scenario, device=device)
        # A scenario imports modules of its own, such as that of a storage backend.
        return {file: own for file, own in lines.items() if module_name_of(file) in sys.modules}


class NativeVariantWorker(VariantWorker):
    """Runs this repository's scenarios on the ``assembler`` that lies under a root."""

    def __init__(self, root: Path) -> None:
        sys.path.insert(0, str(root))
        import_module("torch").set_num_threads(1)
        import_module("traces.targets.native.script")
        import_module("traces.targets.native.target")
        super().__init__(root)

    @override
    def record(self, scenario: Scenario, *, device: str) -> Recording:
        recording: Recording = import_module("traces.targets.native.run").run_scenario(
            scenario, device=device
        )
        return recording


class SglangVariantWorker(VariantWorker):
    """Runs scenarios on the sglang that lies under a root; always on the simulated device."""

    def __init__(self, root: Path) -> None:
        runner: Any = import_module("traces.targets.sglang.scenario_runner")
        self._session = runner.ReleaseSession(root, device=runner.DEFAULT_DEVICE)
        super().__init__(root)

    @override
    def record(self, scenario: Scenario, *, device: str) -> Recording:
        recording: Recording = self._session.run_scenario(scenario)
        return recording


@contextmanager
def _executed_lines_of(root: Path, files: Sequence[str]) -> Iterator[dict[str, set[int]]]:
    """Yield the lines of some files that any thread has executed so far."""
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
