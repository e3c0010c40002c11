"""Plays scenarios on the release of sglang that this process imports."""

from pathlib import Path
from typing import Any

import torch

from assembler.accelerator.sim import SimDevice
from traces.errors import RecorderError
from traces.model import Recording
from traces.recorder import record
from traces.targets.native_device import open_device
from traces.targets.sglang import standins
from traces.targets.sglang.assembly import Assembled, assemble
from traces.targets.sglang.bench import Bench
from traces.targets.sglang.discovery import PACKAGE, discover
from traces.targets.sglang.errors import Unplayable
from traces.targets.sglang.isolation import in_copy
from traces.targets.sglang.memory import buffers_of
from traces.targets.sglang.script import STEPS, Script
from traces.targets.sglang.target import SglangTarget
from traces.targets.sglang.tidy import tidied
from traces.targets.sglang.world import close_world, group_tag

DEFAULT_DEVICE = "sim:latest:0"


class SglangPlayer:
    """Plays scenarios, each with a world of its own; one after the other.

    Args:
        root: directory that holds ``sglang/``; first on the path for it already.
        device: see :func:`open_device`; copies happen as late as allowed unless it says otherwise.

    Raises:
        ImportError: another ``sglang`` was imported, or it cannot be.
    """

    def __init__(self, root: Path, *, device: str) -> None:
        torch.set_num_threads(1)
        self._device = open_device(device)
        self._standins = standins.install(self._device)
        release = discover()
        self._standins.bind()
        self.target = SglangTarget(release, is_pinned=self._device.is_pinned, group_tag=group_tag)
        if self.target.root.resolve() != root.resolve():
            raise ImportError(f"{PACKAGE}: expected the one under {root}, got {self.target.root}")

    def play(self, scenario: Any) -> Recording:  # noqa: ANN401
        """Play one scenario in a copy of this process.

        Raises:
            Unplayable: the release does not have what it needs.
            RecorderError: something could not be recorded.
            StageError: the copy died.
        """
        return in_copy(lambda: self._play(scenario))

    def _play(self, scenario: Any) -> Recording:  # noqa: ANN401
        recorder = record(target=self.target)
        recorder.scenario(scenario.name, scenario.config)
        try:
            with recorder:
                with recorder.step("build"):
                    stack = assemble(scenario, device=str(self._device.torch_device))
                    self._watch(stack)
                bench = Bench(self._device, quiet=self._standins.quiet)
                script = Script(stack, bench=bench)
                for step in STEPS:
                    with recorder.step(step):
                        for result in script.play(step):
                            recorder.digest(result)
        except (RecorderError, Unplayable):
            raise
        except Exception:  # noqa: BLE001 - recorded as the outcome
            pass
        finally:
            close_world()
        return tidied(recorder.recording, findings=self._races())

    def _watch(self, stack: Assembled) -> None:
        for name, pool in stack.device_pools.items():
            for buffer in buffers_of(pool):
                self._standins.watch(buffer.tensor, f"{name}.{buffer.name}")

    def _races(self) -> list[str]:
        """Return what was not ordered, a line for each pair of operations, numbers left out."""
        if not isinstance(self._device, SimDevice):
            return []
        found = {
            f"race: {race.first.label} on {race.first.party.kind} and "
            f"{race.second.label} on {race.second.party.kind}"
            for race in self._device.races
        }
        return sorted(found)
