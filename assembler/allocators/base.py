"""Allocators of the slots of one device pool, in whole pages."""

from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.device_pools.base import KVCache, SlotAllocator
from assembler.device_pools.mamba import MambaPool
from assembler.free_pages import FreePageList
from assembler.names import ComponentType

PoolT = TypeVar("PoolT")


class PageAllocator(Generic[PoolT]):
    """Owner of the slots of one device pool; page 0 is never handed out.

    Attributes:
        size: slots that can be handed out.
        page_size: slots in a page.
        device: where index tensors live.
    """

    def __init__(self, *, size: int, page_size: int, device: Device, pool: PoolT) -> None:
        self.size = size
        self.page_size = page_size
        self.device = device
        self._pool = pool
        self._free_page_list = FreePageList(
            subject=type(self).__name__,
            first_page=1,
            page_num=size // page_size,
            page_size=page_size,
        )

    def alloc(self, need_size: int) -> torch.Tensor | None:
        """Return slots, or None when there are too few.

        Shape: ``(need_size,) int64`` in device memory; whole pages.

        Raises:
            PoolError: ``need_size`` is not whole pages.

        Order: the result is ready for work launched on the current stream. An error of the device
        leaves the slots free.
        """
        taken = self._free_page_list.take(need_size)
        if taken is None:
            return None
        try:
            slots = self.device.to_device(taken)
            self._prepare(slots)
        except Exception:
            self._free_page_list.give_back(taken)
            raise
        return slots

    def free(self, free_index: torch.Tensor) -> None:
        """Take slots back.

        Raises:
            PoolError: a slot that is free, foreign or repeated, or a part of a page.

        Order: blocks until the content of ``free_index`` is known. Does not wait for readers of the
        slots: they must be done.
        """
        self._free_page_list.give_back(self.device.to_host(free_index))

    def available_size(self) -> int:
        """Return the number of free slots."""
        return self._free_page_list.available()

    def get_kvcache(self) -> PoolT:
        """Return the pool that has these slots."""
        return self._pool

    def clear(self) -> None:
        """Make all slots free. Rows keep their content."""
        self._free_page_list.clear()

    def _prepare(self, slots: torch.Tensor) -> None:
        """Make slots ready for a new owner."""


class DeviceSlotAllocator(PageAllocator[KVCache]):
    """Owner of the slots of one KV pool, whose elements are of type ``dtype``.

    Source: sglang 0.5.12 ``allocator.py:35-118``. Pages come back at the end of the free list here,
    so that the order is the same on every device.
    """

    def __init__(
        self, *, size: int, page_size: int, dtype: torch.dtype, device: Device, kvcache: KVCache
    ) -> None:
        super().__init__(size=size, page_size=page_size, device=device, pool=kvcache)
        self.dtype = dtype

    @property
    def slot_owners(self) -> Mapping[ComponentType, SlotAllocator]:
        """Allocator of the slots of each component: this one, of the full KV."""
        return {ComponentType.FULL: self}

    @property
    def window(self) -> None:
        """Nothing: the model has no sliding-window slots."""
        return None


class TokenToKVPoolAllocator(DeviceSlotAllocator):
    """Allocator for pools with pages of one slot: slots 1 to ``size``.

    Source: sglang 0.5.12 ``allocator.py:121-190``.
    """

    def __init__(self, *, size: int, dtype: torch.dtype, device: Device, kvcache: KVCache) -> None:
        super().__init__(size=size, page_size=1, dtype=dtype, device=device, kvcache=kvcache)


class PagedTokenToKVPoolAllocator(DeviceSlotAllocator):
    """Allocator of ``size // page_size`` whole pages, the first slot of which is ``page_size``.

    Source: sglang 0.5.12 ``allocator.py:362-530``. Token-wise extension of a partly filled page
    belongs to the scheduler and is not offered.
    """


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
