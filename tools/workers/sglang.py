"""The stage of a worker that plays the real package, in an environment of its own."""

from pathlib import Path
from typing import TYPE_CHECKING

from tools.errors import ToolError
from tools.workers.protocol import (
    ReadProvenance,
    ReplayScenario,
    RunResult,
    RunScenario,
    UnsupportedScenario,
    read_provenance,
)
from traces.targets.sglang.fork import run_in_fork

if TYPE_CHECKING:
    from traces.targets.sglang.scenario_runner import SglangScenarioRunner

_AUTO = "auto"


class SglangWorker:
    """Plays scenarios on the sglang that lies under one root.

    Args:
        root: directory that holds ``sglang/``.

    Raises:
        ImportError: another ``sglang`` was imported, or it cannot be. Where there is a GPU, the
            requests say whether it is to be used, and it is imported for them.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._players: dict[str, SglangScenarioRunner] = {}
        # Whoever asks CUDA here spoils it for the copies that are to play on it.
        if not run_in_fork(_gpu_num):
            self._player(_AUTO)

    def play(self, request: RunScenario) -> RunResult | UnsupportedScenario:
        """Play one scenario and return its trace, or why this release cannot."""
        if _is_gpu(request.device):
            return run_in_fork(lambda: self._run(request))
        return self._run(request)

    def replay(self, request: ReplayScenario) -> object:
        """Play one scenario again and return the log of its calls, or of the lines of one.

        Raises:
            ToolError: on a GPU.
        """
        if _is_gpu(request.device):
            rule = "must be simulated to be looked at again"
            raise ToolError("device", rule, expected="sim", got=request.device)
        return self._player(request.device).replayed(request.scenario, request.call)

    def builders(self) -> tuple[str, ...]:
        """Return the names of all stack builders of the release."""
        return self._player(_AUTO).target.builders()

    def provenance(self, request: ReadProvenance) -> dict[str, str]:
        """Return device and versions, for the record beside the goldens."""
        return run_in_fork(lambda: read_provenance(request.device))

    def _run(self, request: RunScenario) -> RunResult | UnsupportedScenario:
        from traces.schema.canonical import render, render_sites
        from traces.targets.sglang.errors import UnsupportedByRelease as Lacking
        from traces.targets.sglang.scenario_runner import run_in_process

        try:
            if _is_gpu(request.device):
                recording = run_in_process(request.scenario, self._root, device=request.device)
            else:
                recording = self._player(request.device).play(request.scenario)
        except Lacking as error:
            return UnsupportedScenario(reason=str(error))
        sites = "" if recording.sites is None else render_sites(recording.sites)
        return RunResult(text=render(recording.trace), sites=sites)

    def _player(self, device: str) -> "SglangScenarioRunner":
        """Return the player of a device; the package is imported for one device only."""
        from traces.targets.sglang.scenario_runner import DEFAULT_DEVICE, SglangScenarioRunner

        name = DEFAULT_DEVICE if device in (_AUTO, "sim") else device
        if name not in self._players:
            self._players[name] = SglangScenarioRunner(self._root, device=name)
        return self._players[name]


def _is_gpu(device: str) -> bool:
    return device.partition(":")[0] == "cuda"


def _gpu_num() -> int:
    import torch

    return torch.cuda.device_count()
