"""Worker class that runs scenarios on the real sglang package, in an environment of its own."""

from pathlib import Path
from typing import TYPE_CHECKING

from tools.errors import ToolError
from tools.workers.hardware import read_provenance
from tools.workers.native import render_recording
from tools.workers.protocol import (
    Handlers,
    ListBuilders,
    ReadProvenance,
    ReplayScenario,
    RunResult,
    RunScenario,
    UnsupportedScenario,
)
from traces.targets.common.fork import run_in_fork

if TYPE_CHECKING:
    from traces.divergence.logs import CallLog, LineLog
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
        # number of GPUs is read in a fork.
        if not run_in_fork(_gpu_num):
            self._runner(_AUTO)

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
        return self._runner(task.device).log_run(task.scenario, task.call)

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
            return render_recording(self._runner(task.device).run_scenario(task.scenario))
        except UnsupportedByRelease as error:
            return UnsupportedScenario(reason=str(error))

    def _runner(self, device: str) -> "SglangScenarioRunner":
        """Return the runner of a device; the package is imported for one device only."""
        from traces.targets.sglang.scenario_runner import DEFAULT_DEVICE, SglangScenarioRunner

        name = DEFAULT_DEVICE if device in (_AUTO, "sim") else device
        if name not in self._runners:
            self._runners[name] = SglangScenarioRunner(self._root, device=name)
        return self._runners[name]


def _is_gpu(device: str) -> bool:
    return device.partition(":")[0] == "cuda"


def _gpu_num() -> int:
    import torch

    return torch.cuda.device_count()
