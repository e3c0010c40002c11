"""Fences: copies against work of a forward pass that is on its way on a stream of its own.

A server runs forward passes on a stream of their own, and hands that stream to the controller: a
load must not overwrite slots that a forward pass still uses, though they were freed and handed out
again, and a backup must not read rows that are not written yet. The same is tried with the forward
pass on the stream that launches the copies. What nothing orders shows as a race on a simulated
device, and as an edge that a trace lacks.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from traces.targets.common.source_reads import read_fact, remember_facts, source_files
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.row_contents import RowContents
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.source_facts import forward_stream_attributes

FORWARD = "forward"
"""Name of the stream of forward passes."""

_MANAGERS = "sglang.srt.managers"


class FenceScript:
    """Launches copies of one stack while rows of their slots are being written."""

    def __init__(
        self,
        stack: AssembledStack,
        *,
        device: ScriptDevice,
        rows: RowContents,
        transfers: ControllerDriver,
    ) -> None:
        self._controller: Any = stack.controller
        self._device = device
        self._rows = rows
        self._transfers = transfers

    def run(self) -> None:
        """Back up and load behind a forward pass on the current stream, then on its own stream."""
        self._copy_behind_forward(None)
        with self._fenced() as stream:
            self._copy_behind_forward(stream)

    def _copy_behind_forward(self, stream: Any) -> None:  # noqa: ANN401 - a stream of the device
        """Write rows and back them up; write others, free their slots and load into them."""
        slots = self._transfers.take(pages=1)
        self._write(slots, stream)
        host, own = self._transfers.write(slots)
        self._transfers.finish_writing()
        self._device.synchronize()
        # Only the slots that are still written are free: the load has to take them.
        others = self._transfers.take_rest()
        self._write(slots, stream)
        self._transfers.return_slots(slots)
        loaded = self._transfers.load(host, own)
        self._transfers.start_loading()
        self._transfers.finish_loading()
        self._device.synchronize()
        for taken in (loaded, *others):
            self._transfers.return_slots(taken)

    def _write(self, slots: dict[str, torch.Tensor], stream: Any) -> None:  # noqa: ANN401
        where = self._rows.on_host(slots)
        with nullcontext() if stream is None else self._device.on(stream):
            self._rows.write(where, FORWARD)

    @contextmanager
    def _fenced(self) -> Iterator[Any]:
        """Yield a stream for forward passes; the controller has it where the release's has."""
        stream = self._device.new_stream(FORWARD)
        handle = self._device.release_stream(stream)
        names = [name for name in stream_attributes() if hasattr(self._controller, name)]
        before = {name: getattr(self._controller, name) for name in names}
        for name in names:
            setattr(self._controller, name, handle)
        try:
            yield stream
        finally:
            for name, value in before.items():
                setattr(self._controller, name, value)


def stream_attributes() -> tuple[str, ...]:
    """Return the attributes of a controller that a server sets to its forward stream.

    They are read from the assignments in the release's managers.
    """
    facts = (read_fact(forward_stream_attributes, file) for file in _manager_files())
    return tuple(sorted({name for found in facts for name in found}))


def remember_stream_attributes() -> None:
    """Read the sources for :func:`stream_attributes` once for all forks of this process."""
    remember_facts(forward_stream_attributes, files=_manager_files())


def _manager_files() -> Iterator[Path]:
    for folder in importlib.import_module(_MANAGERS).__path__:
        yield from source_files(Path(folder))
