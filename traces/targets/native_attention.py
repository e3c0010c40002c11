"""What a forward pass does to a pool: writes the rows of new tokens, reads rows layer by layer.

Both are launched on the current stream like any other device work. A load that the pass does not
wait for, or a backup that does not wait for the pass, therefore shows: as wrong bytes where the
schedule lets it, as a race on a simulated device always.
"""

from collections.abc import Sequence

import torch

from assembler import PoolName
from assembler.accelerator import Device, rows_of
from traces.targets.content import RowBuffer
from traces.targets.native_round_trip import COMPONENT_OF, Rows, Served, Written


class ForwardPass:
    """Reads the rows of some nodes, layer by layer, on the current stream.

    Args:
        device: where the buffers live.
        rows: their rows by pool.
        nodes: whose rows are read, from the slots that ``node.device`` says now.
    """

    def __init__(self, *, device: Device, rows: Rows, nodes: Sequence[Written]) -> None:
        self._device = device
        self._rows = rows
        self._nodes = nodes
        self._read: dict[tuple[int, PoolName, int], torch.Tensor] = {}

    def read_layer(self, layer: int) -> None:
        """Launch reading one layer of every pool; the caller has waited for it to be loaded."""
        for name, buffers in self._rows.items():
            for number, buffer in enumerate(buffers):
                if buffer.layer != layer:
                    continue
                for written in self._nodes:
                    slots = written.node.device[COMPONENT_OF[name]]
                    read = launch_read(self._device, buffer, slots)
                    self._read[written.node.id, name, number] = read

    def served(self) -> list[Served]:
        """Return what was read; the host has synchronised with the device."""
        return [
            Served(
                written=written,
                content={
                    name: [self._read[written.node.id, name, i] for i in range(len(buffers))]
                    for name, buffers in self._rows.items()
                },
            )
            for written in self._nodes
        ]


def launch_write(
    device: Device, buffer: RowBuffer, slots: torch.Tensor, content: torch.Tensor
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


def launch_read(device: Device, buffer: RowBuffer, slots: torch.Tensor) -> torch.Tensor:
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
