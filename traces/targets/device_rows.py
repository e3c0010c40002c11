"""Rows of a buffer, written and read like any other device work: on the current stream.

A load that is not waited for, or a backup that does not wait, therefore shows: as wrong bytes where
the schedule lets it, as a race on a simulated device always.
"""

from collections.abc import Callable
from typing import Protocol

import torch

from assembler.accelerator import Access, rows_of
from traces.targets.content import RowBuffer


class Launcher(Protocol):
    """What a device is asked for here; any ``assembler.accelerator.Device`` is one."""

    torch_device: torch.device

    def to_device(self, indices: torch.Tensor) -> torch.Tensor:
        """Return an index tensor in device memory."""

    def launch(
        self,
        operation: Callable[[], None],
        *,
        label: str,
        reads: tuple[Access, ...],
        writes: tuple[Access, ...],
    ) -> None:
        """Enqueue an operation on the current stream."""


def launch_write(
    device: Launcher, buffer: RowBuffer, slots: torch.Tensor, content: torch.Tensor
) -> None:
    """Launch writing ``content`` into the rows of ``slots``.

    Args:
        device: where the buffer lives.
        buffer: whose rows are written.
        slots: ``(slot_num,) int64``, whole rows.
        content: ``(row_num, bytes of a row) uint8`` on the host.
    """
    rows = device.to_device(buffer.rows_of(slots))
    table, source = _table(buffer.tensor), content.to(device.torch_device)
    device.launch(
        lambda: _put(table, rows, source),
        label=f"attention writes {buffer.label}",
        reads=(),
        writes=(rows_of(table, lambda: rows),),
    )


def launch_read(device: Launcher, buffer: RowBuffer, slots: torch.Tensor) -> torch.Tensor:
    """Launch reading the rows of ``slots``.

    Returns:
        ``(row_num, bytes of a row) uint8`` on the device; valid once the host synchronised.
    """
    rows = device.to_device(buffer.rows_of(slots))
    table = _table(buffer.tensor)
    served = torch.zeros(
        (rows.numel(), table.shape[1]), dtype=torch.uint8, device=device.torch_device
    )
    device.launch(
        lambda: _take(table, rows, served),
        label=f"attention reads {buffer.label}",
        reads=(rows_of(table, lambda: rows),),
        writes=(),
    )
    return served


def _put(table: torch.Tensor, rows: torch.Tensor, source: torch.Tensor) -> None:
    table.index_copy_(0, rows, source)


def _take(table: torch.Tensor, rows: torch.Tensor, served: torch.Tensor) -> None:
    served.copy_(table.index_select(0, rows))


def _table(tensor: torch.Tensor) -> torch.Tensor:
    """Return the buffer as ``(row_num, bytes of a row) uint8``, sharing its memory."""
    return tensor.view(tensor.shape[0], -1).view(torch.uint8)
