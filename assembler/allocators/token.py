"""The allocator of pools with pages of one slot."""

import torch

from assembler.allocators.base import DeviceSlotAllocator
from assembler.device.base import Device
from assembler.device_pools.base import KVCache


class TokenToKVPoolAllocator(DeviceSlotAllocator):
    """Allocator for pools with pages of one slot: slots 1 to ``size``.

    Source: sglang 0.5.12 ``allocator.py:121-190``.
    """

    def __init__(self, *, size: int, dtype: torch.dtype, device: Device, kvcache: KVCache) -> None:
        super().__init__(size=size, page_size=1, dtype=dtype, device=device, kvcache=kvcache)
