"""A load of all layers that was announced, so that later layers can be launched ahead."""

from dataclasses import dataclass

import torch

from assembler.device.base import Stream
from assembler.names import IoBackend
from assembler.transfer.engine import Submission

# A forward pass gets all layers of one launch when the last of them has arrived.
_MOST_LAYERS = 8


@dataclass(slots=True, kw_only=True, eq=False)
class ExpectedLoad:
    """One load of a host pool, in order of its layers.

    Attributes:
        submission: takes the copies.
        device_pool: the pool that is written.
        slots: host slots and device slots.
        stream: where all layers are loaded.
        launched: layers launched so far.
        reach: layers that the next launch has at most.
    """

    submission: Submission
    device_pool: object
    slots: tuple[torch.Tensor, torch.Tensor]
    stream: Stream
    launched: int = 0
    reach: int = 1

    def covers(
        self, device_pool: object, slots: tuple[torch.Tensor, torch.Tensor], io_backend: str
    ) -> bool:
        """Return whether a load of a layer, on the current stream, belongs to this one."""
        if not self.submission.mover.gathers:
            return False
        is_same = all(one is other for one, other in zip(slots, self.slots, strict=True))
        return (
            is_same
            and device_pool is self.device_pool
            and IoBackend(io_backend) is self.submission.backend
            and self.submission.accelerator.current_stream() is self.stream
        )

    def take_layers(self, layer: int, layer_num: int) -> range:
        """Return the layers to launch when ``layer`` is loaded: none if it was launched before."""
        if layer < self.launched:
            return range(0)
        taken = range(layer, min(layer + self.reach, layer_num))
        self.launched = taken.stop
        self.reach = min(2 * self.reach, _MOST_LAYERS)
        return taken
