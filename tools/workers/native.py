"""Worker classes that run scenarios on this repository's ``assembler``."""

import gc
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from tools.errors import ToolError
from tools.workers.hardware import has_gpu, read_provenance
from tools.workers.protocol import (
    Handlers,
    ListBuilders,
    ListDefaults,
    Reach,
    ReadImportReach,
    ReadProvenance,
    ReplayScenario,
    RunResult,
    RunScenario,
)
from tools.workers.reach import ReachRecorder
from traces.targets.common.fork import run_in_fork

if TYPE_CHECKING:
    from traces.divergence.logs import CallLog, LineLog
    from traces.schema.model import Recording

# Imported before the first scenario, so that no scenario has imports of its own.
_SCENARIO_MODULES = (
    "traces.targets.native.run",
    "traces.targets.native.target",
    "traces.targets.native.script",
    "traces.targets.native.refusal_script",
    "traces.targets.native.scattered_script",
    "traces.targets.native.storage_script",
    "traces.schema.canonical",
)


class NativeWorker:
    """Runs this repository's scenarios on the ``assembler`` that lies under one root.

    Args:
        root: directory that holds ``assembler/``; recorder and scenarios are always the head's.

    Raises:
        ToolError: another ``assembler`` was imported.
    """

    def __init__(self, root: Path) -> None:
        sys.path.insert(0, str(root))
        torch = import_module("torch")
        torch.set_num_threads(1)
        found = import_module("assembler").__file__
        if found is None or Path(found).resolve().parent.parent != root.resolve():
            raise ToolError("assembler", "must come from the side run", expected=root, got=found)

    @property
    def handlers(self) -> Handlers:
        """The task types this class handles."""
        return {
            RunScenario: self.run_scenario,
            ReplayScenario: self.replay_scenario,
            ListBuilders: self.list_builders,
            ListDefaults: self.list_defaults,
            ReadProvenance: lambda task: read_provenance(task.device),
        }

    def run_scenario(self, task: RunScenario) -> RunResult:
        """Run one scenario and return its trace."""
        return render_recording(self.record(task))

    def record(self, task: RunScenario) -> "Recording":
        """Run one scenario under the recorder."""
        from traces.targets.native.run import run_scenario

        return run_scenario(task.scenario, device=task.device)

    def replay_scenario(self, task: ReplayScenario) -> "CallLog | LineLog":
        """Run one scenario again and return the log of its calls, or of the lines of one."""
        from traces.divergence.tracer import log_run
        from traces.targets import get_target
        from traces.targets.native.run import run_scenario

        return log_run(
            get_target("native"),
            task.request,
            run=lambda: run_scenario(task.scenario, device=task.device, last_step=task.last_step),
        )

    def list_builders(self, _task: ListBuilders) -> tuple[str, ...]:
        """Return the names of all stack builders of the target."""
        from traces.targets.native.target import builders

        return tuple(sorted(builders()))

    def list_defaults(self, _task: ListDefaults) -> dict[str, dict[str, Any]]:
        """Return the plain defaults of parameters, by callee."""
        from traces.recording.binding import ArgumentBinder
        from traces.recording.probes import CallProbe
        from traces.targets import get_target

        binders = {
            probe.callee: ArgumentBinder(probe.function, skip_first=bool(probe.method))
            for probe in get_target("native").probes()
            if isinstance(probe, CallProbe)
        }
        return {callee: binder.plain_defaults for callee, binder in binders.items()}


class NativeReachWorker(NativeWorker):
    """Runs scenarios and records what each reaches, in a fork of this process for each.

    A fork begins as this process is after the imports: what an earlier scenario has cached or
    imported is reached again. On a GPU, whose context no fork survives, nothing is recorded.
    """

    def __init__(self, root: Path) -> None:
        self._recorder = ReachRecorder(root, package="assembler")
        with self._recorder.watching():
            super().__init__(root)
            for module in _SCENARIO_MODULES:
                import_module(module)
        self._import_reach = self._recorder.found()
        # Collecting garbage in a fork must not visit, and so copy, everything imported so far.
        gc.collect()
        gc.freeze()

    @property
    @override
    def handlers(self) -> Handlers:
        """The task types this class handles."""
        return {**super().handlers, ReadImportReach: self.read_import_reach}

    @override
    def run_scenario(self, task: RunScenario) -> RunResult:
        """Run one scenario and return its trace with what it reached."""
        if has_gpu(task.device):
            return super().run_scenario(task)
        return run_in_fork(lambda: self._run_watched(task))

    def read_import_reach(self, task: ReadImportReach) -> Reach | None:
        """Return what the imports reached."""
        return None if has_gpu(task.device) else self._import_reach

    def _run_watched(self, task: RunScenario) -> RunResult:
        start = time.perf_counter()
        with self._recorder.watching():
            recording = self.record(task)
        return replace(
            render_recording(recording),
            reach=self._recorder.found(),
            seconds=time.perf_counter() - start,
        )


class NativeAuditWorker(NativeWorker):
    """Runs scenarios for an audit: the round trips cover every buffer, as no golden's do."""

    @override
    def record(self, task: RunScenario) -> "Recording":
        """Run one scenario on every buffer under the recorder."""
        from traces.targets.native.run import run_scenario_on_every_buffer

        return run_scenario_on_every_buffer(task.scenario, device=task.device)


def render_recording(recording: "Recording") -> RunResult:
    """Return a recording as the texts that travel between processes."""
    from traces.schema.canonical import render, render_sites

    sites = "" if recording.sites is None else render_sites(recording.sites)
    return RunResult(text=render(recording.trace), sites=sites)
