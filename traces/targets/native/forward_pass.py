"""A forward pass over pools: it reads the rows of some nodes, layer by layer."""

from collections.abc import Sequence

import torch

from assembler import PoolName
from assembler.device import Device
from traces.targets.common.rows import launch_read
from traces.targets.native.round_trip import BuffersByPool, ServedNode, WrittenNode


class ForwardPass:
    """Reads the rows of some nodes, layer by layer, from the slots that they have by then."""

    def __init__(
        self, *, device: Device, rows: BuffersByPool, nodes: Sequence[WrittenNode]
    ) -> None:
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
                    slots = written.device_slots(buffer.component)
                    read = launch_read(self._device, buffer, slots)
                    self._read[written.node.id, name, number] = read

    def served(self) -> list[ServedNode]:
        """Return the rows that were read; the host has synchronised with the device."""
        return [
            ServedNode(
                written=written,
                content={
                    name: [self._read[written.node.id, name, i] for i in range(len(buffers))]
                    for name, buffers in self._rows.items()
                },
            )
            for written in self._nodes
        ]
