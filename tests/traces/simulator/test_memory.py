import torch

from traces.simulator.memory import MemoryKind, SimulatedMemory


def test_adopted_memory_counts_as_told() -> None:
    memory = SimulatedMemory(capacity_bytes=None)
    tensor = torch.zeros(4)
    assert memory.is_pageable(tensor)
    number = memory.number(tensor)
    memory.adopt(tensor, kind=MemoryKind.DEVICE)
    assert memory.kind(tensor[1:]) is MemoryKind.DEVICE
    assert memory.number(tensor) == number
    assert memory.used_bytes() == 16
    memory.adopt(tensor, kind=MemoryKind.PINNED)
    assert memory.kind(tensor) is MemoryKind.PINNED
    assert memory.allocation_count == 0
