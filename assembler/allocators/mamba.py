"""The allocator of recurrent states."""

import torch
from typing_extensions import override

from assembler.allocators.base import PageAllocator
from assembler.device.base import Device
from assembler.device_pools.mamba import MambaPool


class MambaSlotAllocator(PageAllocator[MambaPool]):
    """Owner of the state slots 1 to ``size``; a new slot holds a zero state.

    Source: sglang 0.5.13 ``allocator/mamba.py``; 0.5.12 ``memory_pool.py:343-384``.
    """

    def __init__(self, *, size: int, pool: MambaPool, device: Device) -> None:
        super().__init__(size=size, page_size=1, device=device, pool=pool)

    @override
    def _prepare(self, slots: torch.Tensor) -> None:
        # Launched on the current stream, like the reads that follow: no event is needed.
        self._pool.clear_slots(slots)
