"""Rows of a buffer, written and read like any other device work: on the current stream.

A load that is not waited for, or a backup that does not wait, therefore shows: as wrong bytes where
the schedule lets it, as a race on a simulated device always.
"""

from collections.abc import Callable
from typing import Protocol

import torch

from assembler.device import Accesses, row_access
from traces.targets.common.content import RowBuffer
from traces.targets.common.labels import ATTENTION, BufferPlace, OperationLabel


class DeviceLauncher(Protocol):
    """The part of a device that launches of row reads and writes need."""

    torch_device: torch.device

    def to_device(self, indices: torch.Tensor) -> torch.Tensor:
        """Return an index tensor in device memory."""

    def launch(
        self, operation: Callable[[], object], *, label: str, reads: Accesses, writes: Accesses
    ) -> None:
        """Enqueue an operation on the current stream."""


def launch_write(
    device: DeviceLauncher, buffer: RowBuffer, slots: torch.Tensor, content: torch.Tensor
) -> None:
    """Launch writing ``content``, ``(row_num, bytes of a row) uint8`` on the host, into rows.

    ``slots`` are ``(slot_num,) int64``, whole rows.
    """
    rows = device.to_device(buffer.rows_of(slots))
    table, source = _table(buffer.tensor), content.to(device.torch_device)
    device.launch(
        lambda: table.index_copy_(0, rows, source),
        label=_label(f"attention writes {buffer.label}", buffer),
        reads=(),
        writes=(row_access(table, lambda: rows),),
    )


def launch_read(
    device: DeviceLauncher, buffer: RowBuffer, slots: torch.Tensor, *, accessor: str = ""
) -> torch.Tensor:
    """Launch reading the rows of ``slots``, ``(slot_num,) int64``, whole rows.

    ``accessor`` is the method of the pool that handed the buffer out; empty for none.

    Returns:
        ``(row_num, bytes of a row) uint8`` on the device; valid once the host synchronised.
    """
    rows = device.to_device(buffer.rows_of(slots))
    table, by = _table(buffer.tensor), f" by {accessor}" if accessor else ""
    served = torch.zeros(
        (rows.numel(), table.shape[1]), dtype=torch.uint8, device=device.torch_device
    )
    device.launch(
        lambda: served.copy_(table.index_select(0, rows)),
        label=_label(f"attention reads {buffer.label}{by}", buffer, accessor=accessor),
        reads=(row_access(table, lambda: rows),),
        writes=(),
    )
    return served


def _label(text: str, buffer: RowBuffer, *, accessor: str = "") -> OperationLabel:
    place = BufferPlace(pool=buffer.pool, buffer=buffer.plane, layer=buffer.layer)
    return OperationLabel(text, operation=ATTENTION, place=place, accessor=accessor)


def _table(tensor: torch.Tensor) -> torch.Tensor:
    """Return the buffer as ``(row_num, bytes of a row) uint8``, sharing its memory."""
    return tensor.view(tensor.shape[0], -1).view(torch.uint8)
