import pytest
import torch

from assembler.allocators.base import MambaSlotAllocator
from assembler.errors import OutOfDeviceMemoryError, PoolError


@pytest.fixture
def pool(pools):
    return pools.mamba()


@pytest.fixture
def allocator(pools, pool):
    return MambaSlotAllocator(size=24, pool=pool, device=pools.device)


def test_slot_zero_is_never_handed_out(allocator):
    assert allocator.alloc(2).tolist() == [1, 2]
    assert allocator.available_size() == 22


def test_new_slots_hold_zero_states_and_others_are_untouched(allocator, pool):
    pool.temporal.fill_(1.5)
    for conv in pool.conv:
        conv.fill_(2.5)

    allocator.alloc(2)

    assert pool.temporal[:, 1:3].eq(0).all()
    assert pool.temporal[:, 0].eq(1.5).all()
    assert pool.temporal[:, 3:].eq(1.5).all()
    for conv in pool.conv:
        assert conv[:, 1:3].eq(0).all()
        assert conv[:, 0].eq(2.5).all()
        assert conv[:, 3:].eq(2.5).all()


def test_too_many_slots_give_none(allocator):
    assert allocator.alloc(25) is None
    assert allocator.available_size() == 24


def test_freed_slots_go_to_the_back(allocator):
    slots = allocator.alloc(24)
    allocator.free(slots[4:6])

    assert allocator.alloc(2).tolist() == [5, 6]


def test_double_free_raises(allocator):
    slots = allocator.alloc(1)
    allocator.free(slots)

    with pytest.raises(PoolError, match=r"^MambaSlotAllocator: slot must be in use"):
        allocator.free(slots)


def test_clear_frees_everything(allocator, pool):
    allocator.alloc(3)
    allocator.clear()

    assert allocator.available_size() == 24
    assert allocator.get_kvcache() is pool


def test_empty_allocation_is_empty(allocator):
    assert allocator.alloc(0).tolist() == []
    allocator.free(torch.tensor([], dtype=torch.int64))


def test_device_without_memory_costs_no_slots(allocator, monkeypatch):
    def to_device(indices):
        raise OutOfDeviceMemoryError("indices", "must fit", expected="memory", got="none")

    monkeypatch.setattr(allocator.device, "to_device", to_device)
    free = allocator.available_size()

    with pytest.raises(OutOfDeviceMemoryError):
        allocator.alloc(4)

    assert allocator.available_size() == free
    monkeypatch.undo()
    assert len(allocator.alloc(free)) == free
