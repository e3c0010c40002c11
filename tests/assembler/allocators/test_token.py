import pytest
import torch

from assembler.allocators.base import TokenToKVPoolAllocator
from assembler.errors import OutOfDeviceMemoryError, PoolError


@pytest.fixture
def allocator(pools):
    pool = pools.mha()
    return TokenToKVPoolAllocator(size=24, dtype=torch.bfloat16, device=pools.device, kvcache=pool)


def test_slot_zero_is_never_handed_out(allocator):
    assert allocator.available_size() == 24
    slots = allocator.alloc(24)
    assert slots.tolist() == list(range(1, 25))
    assert slots.dtype == torch.int64
    assert allocator.alloc(1) is None


def test_freed_slots_go_to_the_back(allocator):
    slots = allocator.alloc(3)
    allocator.free(slots[1:2])

    assert allocator.alloc(22).tolist() == [*range(4, 25), 2]


def test_double_free_raises(allocator):
    slots = allocator.alloc(3)
    allocator.free(slots)

    with pytest.raises(PoolError, match=r"^TokenToKVPoolAllocator: slot must be in use"):
        allocator.free(slots)


def test_padding_slot_cannot_be_freed(allocator):
    with pytest.raises(PoolError, match="expected 1 to 24, got 0"):
        allocator.free(torch.tensor([0]))


def test_allocator_knows_its_pool(allocator):
    assert allocator.get_kvcache().size == 24
    assert allocator.page_size == 1


def test_clear_frees_everything(allocator):
    allocator.alloc(10)
    allocator.clear()

    assert allocator.available_size() == 24


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
