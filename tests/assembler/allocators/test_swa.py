import pytest
import torch

from assembler.allocators.swa import SWATokenToKVPoolAllocator
from assembler.errors import OutOfDeviceMemoryError, PoolError


@pytest.fixture
def pool(pools):
    """24 full slots, 12 window slots, pages of 4."""
    return pools.swa()


@pytest.fixture
def allocator(pools, pool):
    return SWATokenToKVPoolAllocator(
        size=24, size_swa=12, page_size=4, dtype=torch.bfloat16, device=pools.device, kvcache=pool
    )


def test_sizes_are_those_of_the_smaller_side(allocator):
    assert allocator.size == 12
    assert allocator.available_size() == 12
    assert allocator.full_attn_allocator.available_size() == 24
    assert allocator.swa_attn_allocator.available_size() == 12


def test_table_is_shared_with_the_pool_and_maps_minus_one_to_itself(allocator, pool):
    assert pool.full_to_swa_index_mapping is allocator.full_to_swa_index_mapping
    assert allocator.full_to_swa_index_mapping.tolist() == [0] * 28 + [-1]
    assert allocator.full_to_swa(torch.tensor([-1])).tolist() == [-1]


def test_alloc_takes_both_sides_and_writes_the_table(allocator):
    allocator.full_attn_allocator.alloc(8)

    full = allocator.alloc(4)

    assert full.tolist() == [12, 13, 14, 15]
    assert allocator.full_to_swa(full).tolist() == [4, 5, 6, 7]
    assert allocator.full_attn_allocator.available_size() == 12
    assert allocator.swa_attn_allocator.available_size() == 8


def test_alloc_without_window_slots_takes_nothing(allocator):
    assert allocator.alloc(16) is None
    assert allocator.full_attn_allocator.available_size() == 24
    assert allocator.swa_attn_allocator.available_size() == 12


def test_free_returns_both_sides_and_forgets_the_table(allocator):
    full = allocator.alloc(8)

    allocator.free(full[:4])

    assert allocator.full_attn_allocator.available_size() == 20
    assert allocator.swa_attn_allocator.available_size() == 8
    assert allocator.full_to_swa(full).tolist() == [0, 0, 0, 0, 8, 9, 10, 11]


def test_free_swa_keeps_the_full_slots(allocator):
    full = allocator.alloc(8)

    allocator.free_swa(full[:4])

    assert allocator.full_attn_allocator.available_size() == 16
    assert allocator.swa_attn_allocator.available_size() == 8
    assert allocator.full_to_swa(full[:4]).tolist() == [0, 0, 0, 0]


def test_free_after_free_swa_returns_the_rest(allocator):
    full = allocator.alloc(8)
    allocator.free_swa(full[:4])

    allocator.free(full)

    assert allocator.full_attn_allocator.available_size() == 24
    assert allocator.swa_attn_allocator.available_size() == 12


def test_double_free_raises_and_changes_neither_side(allocator):
    full = allocator.alloc(8)
    allocator.free(full[:4])

    with pytest.raises(PoolError, match="in use"):
        allocator.free(full)

    assert allocator.full_attn_allocator.available_size() == 20
    assert allocator.swa_attn_allocator.available_size() == 8


def test_mapping_can_be_set_for_sides_allocated_apart(allocator):
    full = allocator.full_attn_allocator.alloc(4)
    swa = allocator.swa_attn_allocator.alloc(8)[4:]

    allocator.set_full_to_swa_mapping(full, swa)

    assert allocator.full_to_swa(full).tolist() == [8, 9, 10, 11]


def test_mapping_of_different_lengths_raises(allocator):
    with pytest.raises(PoolError, match="expected 4 window slots, got 3"):
        allocator.set_full_to_swa_mapping(torch.arange(4), torch.arange(3))


def test_clear_frees_both_sides_and_forgets_the_table(allocator):
    allocator.alloc(8)

    allocator.clear()

    assert allocator.available_size() == 12
    assert allocator.full_to_swa_index_mapping.tolist() == [0] * 28 + [-1]


def test_single_slot_pages_are_possible(pools, pool):
    allocator = SWATokenToKVPoolAllocator(
        size=24, size_swa=12, page_size=1, dtype=torch.bfloat16, device=pools.device, kvcache=pool
    )

    assert allocator.alloc(3).tolist() == [1, 2, 3]
    assert allocator.full_to_swa_index_mapping.tolist() == [0, 1, 2, 3] + [0] * 21 + [-1]


def test_sides_know_their_pools(allocator, pool):
    assert allocator.get_kvcache() is pool
    assert allocator.full_attn_allocator.get_kvcache() is pool.full_kv_pool
    assert allocator.swa_attn_allocator.get_kvcache() is pool.swa_kv_pool


@pytest.mark.parametrize("working", [0, 1])
def test_device_without_memory_costs_no_slots_of_either_side(allocator, monkeypatch, working):
    answers = [True] * working

    def to_device(indices):
        if answers:
            answers.pop()
            return indices.to(allocator.device.torch_device)
        raise OutOfDeviceMemoryError("indices", "must fit", expected="memory", got="none")

    monkeypatch.setattr(allocator.device, "to_device", to_device)

    with pytest.raises(OutOfDeviceMemoryError):
        allocator.alloc(4)

    assert (
        allocator.full_attn_allocator.available_size(),
        allocator.swa_attn_allocator.available_size(),
    ) == (24, 12)
    monkeypatch.undo()
    assert len(allocator.alloc(12)) == 12
