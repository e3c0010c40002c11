"""Plays scenarios on the release of sglang that is first on the path."""

from pathlib import Path
from typing import Any, Literal

import torch

from traces.divergence import CallLog, LineLog, log_run
from traces.errors import RecorderError
from traces.recording.recorder import Recorder
from traces.schema.model import Message, Recording
from traces.targets.common.fork import run_in_fork
from traces.targets.common.pool_buffers import buffers_of
from traces.targets.sglang.assembly import AssembledStack, assemble
from traces.targets.sglang.discovery import PACKAGE
from traces.targets.sglang.errors import UnsupportedByRelease
from traces.targets.sglang.normalise import normalise_recording
from traces.targets.sglang.rank_context import close_rank_context, group_tag
from traces.targets.sglang.runtime import open_runtime
from traces.targets.sglang.script import TREE, ScenarioScript
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.target import SglangTarget

DEFAULT_DEVICE = "sim:latest:0"


class SglangScenarioRunner:
    """Plays scenarios on a simulated device, each with a world of its own; one after the other.

    Args:
        root: directory that holds ``sglang/``; first on the path for it already.
        device: see :func:`surround`; copies happen as late as allowed unless it says otherwise.

    Attributes:
        target: the release as the recorder sees it.

    Raises:
        ImportError: another ``sglang`` was imported, or it cannot be.
    """

    def __init__(self, root: Path, *, device: str) -> None:
        self._session = _ReleaseSession(root, device=device)
        self.target = self._session.target

    def play(self, scenario: Any) -> Recording:  # noqa: ANN401
        """Play one scenario in a copy of this process.

        Raises:
            Unplayable: the release does not have what it needs.
            RecorderError: something could not be recorded.
            ForkError: the copy died.
        """
        return run_in_fork(lambda: self._session.play(scenario))

    def replayed(self, scenario: Any, call: tuple[str, int] | None) -> CallLog | LineLog:  # noqa: ANN401
        """Play one scenario in a copy and return the log of all calls, or of the lines of one.

        Args:
            scenario: what to play.
            call: function and number of a call; None for all calls.

        Raises:
            Unplayable: the release does not have what it needs.
            RecorderError: something could not be recorded.
            ForkError: the copy died.
        """
        # One copy only: what is logged in a copy of the copy would stay there.
        return run_in_fork(
            lambda: log_run(self.target, call, play=lambda: self._session.play(scenario))
        )


def run_in_process(scenario: Any, root: Path, *, device: str) -> Recording:  # noqa: ANN401
    """Import the release for a device and play one scenario; this process can do no more.

    A GPU needs that: its context does not survive a fork, and page-locked memory stays locked.

    Args:
        scenario: what to play.
        root: directory that holds ``sglang/``; first on the path for it already.
        device: see :func:`surround`.

    Raises:
        ImportError: another ``sglang`` was imported, or it cannot be.
        Unplayable: the release does not have what it needs.
        RecorderError: something could not be recorded.
    """
    return _ReleaseSession(root, device=device).play(scenario)


class _ReleaseSession:
    """One import of the release, on one device.

    Attributes:
        target: the release as the recorder sees it.
    """

    def __init__(self, root: Path, *, device: str) -> None:
        torch.set_num_threads(1)
        self._runtime = open_runtime(device)
        self.target = SglangTarget(
            self._runtime.release,
            is_pinned=self._runtime.device.is_pinned,
            group_tag=group_tag,
            order_seams=self._runtime.order_seams,
        )
        if self.target.root.resolve() != root.resolve():
            raise ImportError(f"{PACKAGE}: expected the one under {root}, got {self.target.root}")

    def play(self, scenario: Any) -> Recording:  # noqa: ANN401
        """Play one scenario; see :meth:`SglangPlayer.play`."""
        recorder = Recorder(self.target)
        recorder.scenario(scenario.name, scenario.config)
        messages: list[Message] = []
        script: ScenarioScript | None = None
        try:
            with recorder:
                with recorder.step("build"):
                    stack = assemble(scenario, device=self._runtime.pool_device)
                    self._watch(stack)
                bench = ScriptDevice(self._runtime.device, quiet=self._runtime.quiet)
                script = ScenarioScript(stack, bench=bench)
                for step in script.steps:
                    if step == TREE:
                        messages += self._new_race_messages("reload", messages)
                    with recorder.step(step):
                        for result in script.play(step):
                            recorder.digest(result)
                    messages += [_message(step, "warning", note) for note in script.take_notes()]
        except (RecorderError, UnsupportedByRelease):
            raise
        except Exception:  # noqa: BLE001 - recorded as the outcome
            pass
        finally:
            close_rank_context()
        step = TREE if script is not None and TREE in script.steps else "reload"
        return normalise_recording(
            recorder.recording, messages=[*messages, *self._new_race_messages(step, messages)]
        )

    def _new_race_messages(self, step: str, known: list[Message]) -> list[Message]:
        """Return what the device found wrong and nobody told yet."""
        told = {message.text for message in known}
        return [
            _message(step, "error", line)
            for line in self._runtime.race_messages()
            if line not in told
        ]

    def _watch(self, stack: AssembledStack) -> None:
        for name, pool in stack.device_pools.items():
            for buffer in buffers_of(pool):
                self._runtime.watch(buffer.tensor, f"{name}.{buffer.name}")


def _message(step: str, level: Literal["warning", "error"], text: str) -> Message:
    return Message(step=step, level=level, text=text)
