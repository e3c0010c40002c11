"""Table of registered storages: which one holds an address, and which memory it counts as."""

import gc
from dataclasses import dataclass

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from assembler.device import Device
from traces.simulator import SimDevice
from traces.simulator.memory import MemoryKind


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedStorage:
    """One storage."""

    name: str
    kind: MemoryKind  # device, page-locked or pageable memory
    is_pool: bool  # False for an intermediate result
    address: int  # of its first byte
    size_bytes: int

    def holds(self, address: int) -> bool:
        """Return whether an address lies in the storage."""
        return self.address <= address < self.address + self.size_bytes


class StorageTable:
    """The registered storages, by weak reference: reused memory is new memory.

    A simulated device registers the memory too.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        # By address of the storage object, which is not used again while a reference is kept.
        self._buffers: dict[int, tuple[StorageWeakRef, TrackedStorage]] = {}
        self._tidy_at = 1024

    def add(self, tensor: torch.Tensor, *, name: str, kind: MemoryKind, is_pool: bool) -> None:
        """Register a tensor's storage, or replace its entry."""
        storage = tensor.untyped_storage()
        if storage.nbytes() == 0:
            return
        self._drop_freed()
        tracked = TrackedStorage(
            name=name,
            kind=kind,
            is_pool=is_pool,
            address=storage.data_ptr(),
            size_bytes=storage.nbytes(),
        )
        self._buffers[storage._cdata] = StorageWeakRef(storage), tracked  # noqa: SLF001 - as torch does
        if isinstance(self._device, SimDevice):
            self._device.memory.adopt(tensor, kind=kind)

    def find(self, tensor: torch.Tensor) -> TrackedStorage | None:
        """Return the entry of a tensor's storage; None without one."""
        if tensor.layout is not torch.strided or tensor.device.type != "cpu":
            return None
        found = self._buffers.get(tensor.untyped_storage()._cdata)  # noqa: SLF001 - as torch does
        return None if found is None else found[1]

    def at(self, address: int) -> torch.Tensor:
        """Return the bytes of the storage that holds an address, ``(size,) uint8``.

        Unregistered memory becomes device memory: host pools register theirs, and a kernel
        reaches no other.

        Raises:
            RuntimeError: no tensor lies there.
        """
        for key, (reference, buffer) in list(self._buffers.items()):
            if reference.expired():
                del self._buffers[key]
            elif buffer.holds(address):
                return _as_bytes(_storage(reference))
        storage = _storage_at(address)
        if storage is None:
            raise RuntimeError(
                "CUDA error: an illegal memory access was encountered "
                f"(no tensor lies at address {address:#x})"
            )
        found = _as_bytes(storage)
        self.add(found, name="unnamed memory", kind=MemoryKind.DEVICE, is_pool=False)
        return found

    def is_device(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor lies in device memory."""
        buffer = self.find(tensor)
        return buffer is not None and buffer.kind is MemoryKind.DEVICE

    def _drop_freed(self) -> None:
        if len(self._buffers) >= self._tidy_at:
            living = {key: one for key, one in self._buffers.items() if not one[0].expired()}
            self._buffers = living
            self._tidy_at = 2 * len(living) + 1024


def _as_bytes(storage: torch.UntypedStorage) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(storage)


def _storage_at(address: int) -> torch.UntypedStorage | None:
    """Return the storage of any tensor alive that holds an address."""
    for candidate in gc.get_objects():
        if issubclass(type(candidate), torch.Tensor) and candidate.layout is torch.strided:
            storage: torch.UntypedStorage = candidate.untyped_storage()
            start = storage.data_ptr()
            if candidate.is_cpu and start <= address < start + storage.nbytes():
                return storage
    return None


def _storage(reference: StorageWeakRef) -> torch.UntypedStorage:
    storage: torch.UntypedStorage = torch.UntypedStorage._new_with_weak_ptr(  # noqa: SLF001
        reference.cdata
    )
    return storage
