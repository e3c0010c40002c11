"""Device memory, page-locked and pageable host memory of the simulated accelerator.

All of it is ordinary memory; its kind is kept by storage. References are weak and by storage, not
by address: memory that is freed and allocated again is new memory.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from assembler.errors import OutOfDeviceMemoryError, OutOfHostMemoryError

# Undefined content should not look like anything.
GARBAGE_BYTE = 0xCB


class MemoryKind(StrEnum):
    """A kind of memory."""

    DEVICE = "device"
    PINNED = "pinned host"
    PAGEABLE = "pageable host"


@dataclass(frozen=True, slots=True, kw_only=True)
class _MemoryBlock:
    """A storage that was allocated or met; it may be freed by now."""

    number: int
    kind: MemoryKind
    size_bytes: int
    reference: StorageWeakRef


class SimulatedMemory:
    """The storages that the device allocated or met.

    Attributes:
        allocation_count: allocations requested so far, device and host, failed ones included.
    """

    def __init__(self, *, capacity_bytes: int | None) -> None:
        self.allocation_count = 0
        self._capacity_bytes = capacity_bytes
        self._failing: set[int] = set()
        # By address of the storage object, which is not used again while a reference is kept.
        self._blocks: dict[int, _MemoryBlock] = {}
        self._freed: list[int] = []
        self._next_number = 0

    def fail(self, *, after: int) -> None:
        """Make one allocation fail: the next one after ``after`` more."""
        self._failing.add(self.allocation_count + after)

    def allocate(
        self, shape: tuple[int, ...], dtype: torch.dtype, *, kind: MemoryKind
    ) -> torch.Tensor:
        """Return memory with undefined content.

        Raises:
            OutOfDeviceMemoryError: the device is full, or :meth:`fail` demanded it.
            OutOfHostMemoryError: :meth:`fail` demanded it.
        """
        size_bytes = torch.Size(shape).numel() * dtype.itemsize
        self._count(size_bytes, kind)
        tensor = torch.empty(shape, dtype=dtype, device="cpu")
        # The allocator often returns zeroed pages, which would hide a read before the first write.
        if tensor.numel():
            tensor.view(-1).view(torch.uint8).fill_(GARBAGE_BYTE)
        self._add(tensor, kind)
        return tensor

    def adopt(self, tensor: torch.Tensor, *, kind: MemoryKind) -> None:
        """Set the kind of a tensor's memory, which was allocated elsewhere."""
        self.number(tensor)
        key = _key(tensor)
        self._blocks[key] = replace(self._blocks[key], kind=kind)

    def kind(self, tensor: torch.Tensor) -> MemoryKind:
        """Return the kind of a tensor's memory; pageable unless it was allocated here."""
        block = self._blocks.get(_key(tensor))
        return MemoryKind.PAGEABLE if block is None else block.kind

    def is_pageable(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor lies in memory that this device never allocated."""
        return self.kind(tensor) is MemoryKind.PAGEABLE

    def number(self, tensor: torch.Tensor) -> int:
        """Return the number of a tensor's memory, from 0 in the order in which it was met."""
        block = self._blocks.get(_key(tensor))
        return self._add(tensor, MemoryKind.PAGEABLE) if block is None else block.number

    def describe(self, tensor: torch.Tensor) -> str:
        """Return kind, number and size of a tensor's memory, in words."""
        size_bytes = tensor.untyped_storage().nbytes()
        return f"{self.kind(tensor)} memory {self.number(tensor)} ({size_bytes} bytes)"

    def used_bytes(self) -> int:
        """Return the bytes of device memory in use."""
        self._drop_freed()
        blocks = self._blocks.values()
        return sum(block.size_bytes for block in blocks if block.kind is MemoryKind.DEVICE)

    def take_freed(self) -> list[int]:
        """Return the numbers of the memory that was freed since the last call."""
        self._drop_freed()
        freed, self._freed = self._freed, []
        return freed

    def _count(self, size_bytes: int, kind: MemoryKind) -> None:
        """Count an allocation; raise if it exceeds the capacity or was set to fail."""
        ordinal = self.allocation_count
        self.allocation_count += 1
        if ordinal in self._failing:
            failure = OutOfDeviceMemoryError if kind is MemoryKind.DEVICE else OutOfHostMemoryError
            rule, got = "allocation was set to fail", f"a failure of allocation {ordinal}"
            raise failure(f"{kind} memory", rule, expected=f"{size_bytes} bytes", got=got)
        if kind is not MemoryKind.DEVICE or self._capacity_bytes is None:
            return
        free_bytes = self._capacity_bytes - self.used_bytes()
        if size_bytes > free_bytes:
            rule = "must hold what is allocated"
            expected = f"at most {free_bytes} bytes of {self._capacity_bytes}"
            raise OutOfDeviceMemoryError("device memory", rule, expected=expected, got=size_bytes)

    def _add(self, tensor: torch.Tensor, kind: MemoryKind) -> int:
        number = self._next_number
        self._next_number += 1
        storage = tensor.untyped_storage()
        self._blocks[_key(tensor)] = _MemoryBlock(
            number=number,
            kind=kind,
            size_bytes=storage.nbytes(),
            reference=StorageWeakRef(storage),
        )
        return number

    def _drop_freed(self) -> None:
        for key, block in list(self._blocks.items()):
            if block.reference.expired():
                self._freed.append(block.number)
                del self._blocks[key]


def _key(tensor: torch.Tensor) -> int:
    # Views share a storage, so they count as the same memory whatever their data_ptr is.
    address: int = tensor.untyped_storage()._cdata  # noqa: SLF001 - as weak references of torch do
    return address
