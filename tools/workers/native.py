"""The worker's side of an audit of our own code: every buffer takes part in the round trips."""

from typing_extensions import override

from tools.workers.protocol import NativeWorker, RunResult, RunScenario


class NativeAuditWorker(NativeWorker):
    """Runs native scenarios on every buffer that can be reached, for an audit."""

    @override
    def play(self, request: RunScenario) -> RunResult:
        """Play one scenario and return its trace, which is no golden's."""
        from traces.schema.canonical import render, render_sites
        from traces.targets.native.run import run_scenario_on_every_buffer

        recording = run_scenario_on_every_buffer(request.scenario, device=request.device)
        sites = "" if recording.sites is None else render_sites(recording.sites)
        return RunResult(text=render(recording.trace), sites=sites)
