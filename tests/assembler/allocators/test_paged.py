import pytest
import torch

from assembler.allocators.base import PagedTokenToKVPoolAllocator
from assembler.errors import PoolError


def new_allocator(pools, *, size):
    return PagedTokenToKVPoolAllocator(
        size=size, page_size=4, dtype=torch.bfloat16, device=pools.device, kvcache=pools.mha()
    )


def test_page_zero_is_never_handed_out(pools):
    allocator = new_allocator(pools, size=24)

    assert allocator.alloc(8).tolist() == [4, 5, 6, 7, 8, 9, 10, 11]


def test_unaligned_size_offers_whole_pages_only(pools):
    allocator = new_allocator(pools, size=26)

    assert allocator.available_size() == 24


def test_need_must_be_whole_pages(pools):
    allocator = new_allocator(pools, size=24)

    with pytest.raises(PoolError, match="got 5"):
        allocator.alloc(5)
    assert allocator.alloc(4) is not None


def test_allocated_slots_fit_the_pool(pools):
    allocator = new_allocator(pools, size=24)
    slots = allocator.alloc(24)

    # 24 slots + page 0 = 28 rows.
    assert int(slots.max()) == 27
    assert allocator.get_kvcache().k_buffer[0].shape[0] == 28


def test_double_free_raises(pools):
    allocator = new_allocator(pools, size=24)
    slots = allocator.alloc(4)
    allocator.free(slots)

    with pytest.raises(PoolError, match="in use"):
        allocator.free(slots)
