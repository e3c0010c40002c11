"""Slots of sliding-window hybrids: full slots, and window slots for tokens in the window."""

from collections.abc import Mapping

import torch

from assembler.allocators.base import (
    DeviceSlotAllocator,
    PagedTokenToKVPoolAllocator,
    TokenToKVPoolAllocator,
)
from assembler.device.base import Device
from assembler.device_pools.base import KVCache, SlotAllocator
from assembler.device_pools.swa import SWAKVPool
from assembler.errors import PoolError
from assembler.names import ComponentType

NO_SWA_SLOT = 0


class SWATokenToKVPoolAllocator:
    """Allocator of full and window slots, with the table from the former to the latter.

    Attributes:
        size: slots of the smaller side; ``size_full`` and ``size_swa`` are those of each.
        page_size: slots in a page, on both sides.
        dtype: type of the pools' elements.
        device: where index tensors live.
        full_attn_allocator: owner of the full slots.
        swa_attn_allocator: owner of the window slots.

    Source: sglang 0.5.12 ``swa_memory_pool.py:296-645``; unlike there, ``alloc`` takes whole pages
    of any size.
    """

    def __init__(
        self,
        *,
        size: int,
        size_swa: int,
        page_size: int,
        dtype: torch.dtype,
        device: Device,
        kvcache: SWAKVPool,
    ) -> None:
        self.size = min(size, size_swa)
        self.size_full = size
        self.size_swa = size_swa
        self.page_size = page_size
        self.dtype = dtype
        self.device = device
        self._kvcache = kvcache
        self.full_attn_allocator = self._side(size=size, kvcache=kvcache.full_kv_pool)
        self.swa_attn_allocator = self._side(size=size_swa, kvcache=kvcache.swa_kv_pool)
        # One entry more than the pool has rows: index -1 reads the last one and stays -1.
        self._mapping = device.zeros((size + page_size + 1,), torch.int64)
        # Filled in place: the pool below shares this tensor.
        self._mapping[-1] = -1
        kvcache.register_mapping(self._mapping)

    @property
    def slot_owners(self) -> Mapping[ComponentType, SlotAllocator]:
        """Allocators of the full slots and of the window slots."""
        return {
            ComponentType.FULL: self.full_attn_allocator,
            ComponentType.SWA: self.swa_attn_allocator,
        }

    @property
    def window(self) -> "SWATokenToKVPoolAllocator":
        """This allocator, which maps full slots to window slots."""
        return self

    @property
    def full_to_swa_index_mapping(self) -> torch.Tensor:
        """Window slot of each full slot, ``(size_full + page_size + 1,) int64``; 0 for none."""
        return self._mapping

    def full_to_swa(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the window slots of full slots; 0 where there is none, -1 for -1.

        Shape: ``(slot_num,) int64`` in device memory, as ``indices``.
        """
        # Indexing with a tensor copies: the result stays as it is when the table changes.
        return self._mapping[indices]

    def alloc(self, need_size: int) -> torch.Tensor | None:
        """Return full slots that have window slots, or None when either side has too few.

        Shape: ``(need_size,) int64`` in device memory; whole pages.

        Raises:
            PoolError: ``need_size`` is not whole pages.

        Order: an error of the device leaves the slots of both sides free.
        """
        if need_size > self.available_size():
            return None
        full = self.full_attn_allocator.alloc(need_size)
        if full is None:
            return None
        try:
            swa = self.swa_attn_allocator.alloc(need_size)
        except Exception:
            self.full_attn_allocator.free(full)
            raise
        if swa is None:
            self.full_attn_allocator.free(full)
            return None
        self.set_full_to_swa_mapping(full, swa)
        return full

    def free(self, free_index: torch.Tensor) -> None:
        """Take back full slots and the window slots they still have.

        Raises:
            PoolError: a slot that is free, foreign or repeated, or a part of a page.
        """
        self.full_attn_allocator.free(free_index)
        self.free_swa(free_index)

    def free_swa(self, free_index: torch.Tensor) -> None:
        """Take back the window slots of full slots that have one; the full slots stay in use.

        Raises:
            PoolError: the window slots are not whole pages.
        """
        # Read before the table is cleared. The mask makes the host wait: the number of window slots
        # is known only when the device has compared them.
        swa = self.full_to_swa(free_index)
        self.swa_attn_allocator.free(swa[swa > NO_SWA_SLOT])
        self._mapping[free_index] = NO_SWA_SLOT

    def set_full_to_swa_mapping(self, full: torch.Tensor, swa: torch.Tensor) -> None:
        """Map full slots to as many window slots that were allocated apart, or raise PoolError."""
        if full.numel() != swa.numel():
            rule, expected = "full and window slots must pair up", f"{full.numel()} window slots"
            raise PoolError("SWATokenToKVPoolAllocator", rule, expected=expected, got=swa.numel())
        self._mapping[full] = swa

    def available_size(self) -> int:
        """Return the number of slots that are free on both sides."""
        return min(owner.available_size() for owner in self.slot_owners.values())

    def get_kvcache(self) -> SWAKVPool:
        """Return the pool that has these slots."""
        return self._kvcache

    def clear(self) -> None:
        """Make all slots free and clear the table."""
        self.full_attn_allocator.clear()
        self.swa_attn_allocator.clear()
        self._mapping[:-1] = NO_SWA_SLOT

    def _side(self, *, size: int, kvcache: KVCache) -> DeviceSlotAllocator:
        dtype, device, page_size = self.dtype, self.device, self.page_size
        if page_size == 1:
            return TokenToKVPoolAllocator(size=size, dtype=dtype, device=device, kvcache=kvcache)
        return PagedTokenToKVPoolAllocator(
            size=size, page_size=page_size, dtype=dtype, device=device, kvcache=kvcache
        )
