"""The worker's side of an audit of our own code: every buffer takes part in the round trips."""

from typing_extensions import override

from tools.stage import NativeStage, Performance, Play


class NativeAuditStage(NativeStage):
    """Plays scenarios as :class:`~tools.stage.NativeStage` does, on every buffer there is."""

    @override
    def play(self, request: Play) -> Performance:
        """Play one scenario and return its trace, which is no golden's."""
        from traces.canonical import render, render_sites
        from traces.play import play_every_buffer

        recording = play_every_buffer(request.scenario, device=request.device)
        sites = "" if recording.sites is None else render_sites(recording.sites)
        return Performance(text=render(recording.trace), sites=sites)
