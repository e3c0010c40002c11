"""Slots of state-space layers."""

import torch

from assembler.allocators.free_pages import FreePageList
from assembler.device.base import Device
from assembler.device_pools.mamba import MambaPool


class MambaSlotAllocator:
    """Owner of the state slots 1 to ``size``; a new slot holds a zero state.

    Attributes:
        size: slots that can be handed out.
        page_size: 1.
        device: where index tensors live.

    Source: sglang 0.5.13 ``allocator/mamba.py``; 0.5.12 ``memory_pool.py:343-384``.
    """

    def __init__(self, *, size: int, pool: MambaPool, device: Device) -> None:
        self.size = size
        self.page_size = 1
        self.device = device
        self._pool = pool
        self._free_page_list = FreePageList(
            subject=type(self).__name__, first_page=1, page_num=size, page_size=1
        )

    def alloc(self, need_size: int) -> torch.Tensor | None:
        """Return slots with zeroed states, or None when there are too few.

        Shape: ``(need_size,) int64`` in device memory.

        Raises:
            PoolError: ``need_size`` is negative.

        Order: zeroing is launched on the current stream. An error of the device leaves the slots
        free.
        """
        taken = self._free_page_list.take(need_size)
        if taken is None:
            return None
        try:
            slots = self.device.to_device(taken)
            self._pool.clear_slots(slots)
        except Exception:
            self._free_page_list.give_back(taken)
            raise
        return slots

    def free(self, free_index: torch.Tensor) -> None:
        """Take slots back.

        Raises:
            PoolError: a slot that is free, foreign or repeated.

        Order: blocks until the content of ``free_index`` is known.
        """
        self._free_page_list.give_back(self.device.to_host(free_index))

    def available_size(self) -> int:
        """Return the number of free slots."""
        return self._free_page_list.available()

    def get_kvcache(self) -> MambaPool:
        """Return the pool whose slots these are."""
        return self._pool

    def clear(self) -> None:
        """Make all slots free. States keep their content until a slot is handed out again."""
        self._free_page_list.clear()
