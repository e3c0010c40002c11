"""Worker class that runs scenarios on the real sglang package, in an environment of its own."""

import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from tools.errors import ToolError
from tools.workers.hardware import has_gpu, read_provenance
from tools.workers.native import render_recording
from tools.workers.protocol import (
    Handlers,
    ListBuilders,
    Reach,
    ReadImportReach,
    ReadProvenance,
    ReplayScenario,
    RunResult,
    RunScenario,
    UnsupportedScenario,
)
from tools.workers.reach import ReachRecorder
from traces.targets.common.fork import run_in_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from traces.divergence.logs import CallLog, LineLog
    from traces.schema.model import Recording
    from traces.targets.common.scenario import Scenario
    from traces.targets.sglang.scenario_runner import SglangScenarioRunner

_AUTO = "auto"


class SglangWorker:
    """Runs scenarios on the sglang that lies under one root.

    Args:
        root: directory that holds ``sglang/``.

    Raises:
        ImportError: another ``sglang`` was imported, or it cannot be. On a machine with a GPU it is
            imported for the first task, whose device decides how.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._runners: dict[str, SglangScenarioRunner] = {}
        # A process that has initialised CUDA cannot be forked for scenarios on the GPU, so the
        # number of GPUs is read in a fork; the import of torch initialises nothing.
        import_module("torch")
        if not run_in_fork(_gpu_num):
            self._import_release()

    @property
    def handlers(self) -> Handlers:
        """The task types this class handles."""
        return {
            RunScenario: self.run_scenario,
            ReplayScenario: self.replay_scenario,
            ListBuilders: self.list_builders,
            ReadProvenance: self.read_provenance,
        }

    def run_scenario(self, task: RunScenario) -> RunResult | UnsupportedScenario:
        """Run one scenario and return its trace, or why this release cannot."""
        if _is_gpu(task.device):
            return run_in_fork(lambda: self._run(task))
        return self._run(task)

    def replay_scenario(self, task: ReplayScenario) -> "CallLog | LineLog":
        """Run one scenario again and return the log of its calls, or of the lines of one.

        Raises:
            ToolError: on a GPU.
        """
        if _is_gpu(task.device):
            rule = "must be simulated to be run again"
            raise ToolError("device", rule, expected="sim", got=task.device)
        runner = self._runner(task.device)
        return runner.log_run(task.scenario, task.request, last_step=task.last_step)

    def list_builders(self, _task: ListBuilders) -> tuple[str, ...]:
        """Return the names of all stack builders of the release."""
        return self._runner(_AUTO).target.builders()

    def read_provenance(self, task: ReadProvenance) -> dict[str, str]:
        """Return device and versions, for the record beside the goldens."""
        return run_in_fork(lambda: read_provenance(task.device))

    def _run(self, task: RunScenario) -> RunResult | UnsupportedScenario:
        from traces.targets.sglang.errors import UnsupportedByRelease
        from traces.targets.sglang.scenario_runner import run_in_process

        try:
            if _is_gpu(task.device):
                return render_recording(
                    run_in_process(task.scenario, self._root, device=task.device)
                )
            runner = self._runner(task.device)
            runner.require_entry_point(task.scenario)
            # Rendered in the fork: two texts are sent in less time than the records.
            return runner.in_fork(lambda run: render_recording(run(task.scenario)))
        except UnsupportedByRelease as error:
            return UnsupportedScenario(reason=str(error))

    def _import_release(self) -> None:
        self._runner(_AUTO)

    def _runner(self, device: str) -> "SglangScenarioRunner":
        """Return the runner of a device; the package is imported for one device only."""
        from traces.targets.sglang.scenario_runner import DEFAULT_DEVICE, SglangScenarioRunner

        name = DEFAULT_DEVICE if device in (_AUTO, "sim") else device
        if name not in self._runners:
            self._runners[name] = SglangScenarioRunner(self._root, device=name)
        return self._runners[name]


class SglangReachWorker(SglangWorker):
    """Runs scenarios and records what each reaches; on a GPU nothing is recorded."""

    def __init__(self, root: Path) -> None:
        self._recorder = ReachRecorder(root, package="sglang")
        self._import_reach: Reach | None = None
        super().__init__(root)

    @property
    @override
    def handlers(self) -> Handlers:
        """The task types this class handles."""
        return {**super().handlers, ReadImportReach: self.read_import_reach}

    def read_import_reach(self, task: ReadImportReach) -> Reach | None:
        """Return what the imports reached."""
        return None if has_gpu(task.device) else self._import_reach

    @override
    def _import_release(self) -> None:
        with self._recorder.watching():
            super()._import_release()
        self._import_reach = self._recorder.found()

    @override
    def run_scenario(self, task: RunScenario) -> RunResult | UnsupportedScenario:
        """Run one scenario and return its trace, or why this release cannot, with its reach."""
        if has_gpu(task.device):
            return super().run_scenario(task)
        start = time.perf_counter()
        result, reach = self._runner(task.device).in_fork(lambda run: self._watch(run, task))
        if isinstance(result, str):
            return UnsupportedScenario(reason=result, reach=reach)
        return replace(result, reach=reach, seconds=time.perf_counter() - start)

    def _watch(
        self, run: "Callable[[Scenario], Recording]", task: RunScenario
    ) -> tuple[RunResult | str, Reach]:
        from traces.targets.sglang.errors import UnsupportedByRelease

        result: Recording | str
        with self._recorder.watching():
            try:
                result = run(task.scenario)
            except UnsupportedByRelease as error:
                result = str(error)
        rendered = result if isinstance(result, str) else render_recording(result)
        return rendered, self._recorder.found()


def _is_gpu(device: str) -> bool:
    return device.partition(":")[0] == "cuda"


def _gpu_num() -> int:
    import torch

    return torch.cuda.device_count()
