"""How a worker plays mutated code of a target: in copies of a process that has not imported it."""

import gc
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tools.mutation.fingerprint import fingerprint
from tools.mutation.overlay import Overlay, swap_in
from traces.model import Recording
from traces.scenarios import Scenario


class Player(Protocol):
    """Plays scenarios in the process it is called in, which is a copy made for that."""

    def put_in(self, texts: Mapping[str, str]) -> None:
        """Let mutated texts take the place of modules."""

    def play(self, scenario: Scenario, *, device: str) -> Recording:
        """Play and record one scenario."""

    def state(self, scenario: Scenario, *, device: str) -> str:
        """Play one scenario and return the fingerprint of what is left."""


class NativePlayer:
    """Plays this repository's ``assembler``, which the process must not have imported before.

    Args:
        root: directory that holds it.
    """

    def __init__(self, root: Path) -> None:
        sys.path.insert(0, str(root))
        import torch

        import traces.diff
        import traces.recorder  # noqa: F401 - warm before the copies are made

        torch.set_num_threads(1)
        self._root = root
        gc.freeze()

    def put_in(self, texts: Mapping[str, str]) -> None:
        """Find mutated modules before all others, and open the walls: they stop what is silent."""
        if texts:
            sys.meta_path.insert(0, Overlay(self._root, texts))
        from assembler.walls import without_walls

        # Never left: the copy ends with the walls open.
        without_walls().__enter__()

    def play(self, scenario: Scenario, *, device: str) -> Recording:
        """Play and record one scenario."""
        from traces.play import play

        return play(scenario, device=device)

    def state(self, scenario: Scenario, *, device: str) -> str:
        """Play one scenario and return the fingerprint of what is left."""
        from traces.targets.native_stage import STEPS, NativeStage

        stage = NativeStage(scenario, device=device)
        told = [str(result) for step in STEPS for result in stage.play(step)]
        return fingerprint({"stage": stage, "told": told})


class SglangPlayer:
    """Plays the sglang under a root, imported once; mutated functions get their code swapped.

    Args:
        root: directory that holds it.
    """

    def __init__(self, root: Path) -> None:
        from traces.targets.sglang.stage import DEFAULT_DEVICE
        from traces.targets.sglang.stage import SglangPlayer as Player

        class Watched(Player):
            """Remembers the stack for its fingerprint."""

            stack: object = None

            def _watch(self, stack) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
                self.stack = stack
                super()._watch(stack)

        self._root = root
        self._player = Watched(root, device=DEFAULT_DEVICE)
        gc.freeze()

    def put_in(self, texts: Mapping[str, str]) -> None:
        """Swap the code of functions."""
        swap_in(self._root, texts)

    def play(self, scenario: Scenario, *, device: str) -> Recording:  # noqa: ARG002
        """Play and record one scenario, in one more copy."""
        return self._player.play(scenario)

    def state(self, scenario: Scenario, *, device: str) -> str:  # noqa: ARG002
        """Play one scenario and return the fingerprint of its pools, group and controller."""
        self._player._play(scenario)  # noqa: SLF001 - in this copy, so that the stack remains
        return fingerprint({"stack": self._player.stack})
