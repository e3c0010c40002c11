"""Worker classes that run scenarios on this repository's ``assembler``."""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from tools.errors import ToolError
from tools.workers.hardware import read_provenance
from tools.workers.protocol import (
    Handlers,
    ListBuilders,
    ReadProvenance,
    ReplayScenario,
    RunResult,
    RunScenario,
)

if TYPE_CHECKING:
    from traces.divergence.logs import CallLog, LineLog
    from traces.schema.model import Recording


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
            task.call,
            run=lambda: run_scenario(task.scenario, device=task.device),
        )

    def list_builders(self, _task: ListBuilders) -> tuple[str, ...]:
        """Return the names of all stack builders of the target."""
        from traces.targets.native.target import builders

        return tuple(sorted(builders()))


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
