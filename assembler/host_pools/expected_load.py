"""A load of all layers that was announced, so that later layers can be launched ahead."""

from dataclasses import dataclass

import torch

from assembler.device.base import Stream
from assembler.host_pools.known_rows import LayerSets
from assembler.names import Direction
from assembler.transfer.engine import Submission
from assembler.transfer.layer_rows import LayerRows

# A forward pass gets all layers of one launch when the last of them has arrived: 2 MB take about
# 40 microseconds over PCIe 5. One launch for each layer would be more work for the host than the
# copy is for the GPU, and 32 MB hide what the host does for the next ones. A load of 4 MB is one
# launch.
_FIRST_BYTES = 2_000_000
_MOST_BYTES = 32_000_000


@dataclass(slots=True, kw_only=True, eq=False)
class ExpectedLoad:
    """One load of a host pool, in order of its layers.

    Attributes:
        submission: takes the copies.
        device_pool: the pool that is written.
        slots: host slots and device slots.
        stream: where all layers are loaded.
        layers: rows of each layer, plane by plane.
        launched: layers launched so far.
        reach: bytes of the next launch, about; a launch has a layer at least.
    """

    submission: Submission
    device_pool: object
    slots: tuple[torch.Tensor, torch.Tensor]
    stream: Stream
    layers: LayerSets
    launched: int = 0
    reach: int = _FIRST_BYTES

    def covers(
        self, device_pool: object, slots: tuple[torch.Tensor, torch.Tensor], io_backend: str
    ) -> bool:
        """Return whether a load of a layer, on the current stream, belongs to this one."""
        return (
            slots[0] is self.slots[0]
            and slots[1] is self.slots[1]
            and device_pool is self.device_pool
            and io_backend == self.submission.backend
            and self.submission.accelerator.current_stream() is self.stream
        )

    def take_layer(self, layer: int) -> tuple[LayerRows, ...]:
        """Return the rows of a layer, after launching it and some that follow if need be."""
        if layer >= self.launched:
            self._launch_from(layer)
        return self.layers.layers[layer].rows

    def _launch_from(self, layer: int) -> None:
        slot_num = self.slots[0].numel()
        bytes_per_layer = sum(
            rows.host.row_bytes * rows.row_map.row_num(slot_num)
            for rows in self.layers.layers[layer].rows
        )
        # A power of two: backends keep what they know about a span, and there are not many then.
        layer_num = 1 << (max(1, self.reach // max(bytes_per_layer, 1)).bit_length() - 1)
        left = len(self.layers.layers) - layer
        if not self.launched and left * bytes_per_layer <= 2 * self.reach:
            layer_num = left
        stop = layer + min(layer_num, left)
        taken = self.layers.span(layer, stop)
        self.submission.launch_ahead(taken, self.slots, direction=Direction.LOAD)
        self.launched = stop
        self.reach = min(2 * self.reach, _MOST_BYTES)
