"""The memory that takes part: which storage holds an address, and whether it is the device's."""

from dataclasses import dataclass

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from assembler.accelerator import Device
from assembler.accelerator.sim import SimDevice
from assembler.accelerator.sim.memory import MemoryKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """One storage.

    Attributes:
        name: for people.
        kind: what its memory counts as.
        is_pool: whether it belongs to a pool, and is no intermediate result.
        address: of its first byte.
        size_bytes: of the storage.
    """

    name: str
    kind: MemoryKind
    is_pool: bool
    address: int
    size_bytes: int

    def holds(self, address: int) -> bool:
        """Return whether an address lies in the storage."""
        return self.address <= address < self.address + self.size_bytes


class Buffers:
    """All storages that are known; weakly, so that memory handed out again is new memory.

    Args:
        device: is told too, when it tells kinds of memory apart.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._buffers: dict[StorageWeakRef, Buffer] = {}

    def add(self, tensor: torch.Tensor, *, name: str, kind: MemoryKind, is_pool: bool) -> None:
        """Make a tensor's storage known; replaces what was known of it."""
        storage = tensor.untyped_storage()
        if storage.nbytes() == 0:
            return
        self._buffers[StorageWeakRef(storage)] = Buffer(
            name=name,
            kind=kind,
            is_pool=is_pool,
            address=storage.data_ptr(),
            size_bytes=storage.nbytes(),
        )
        if isinstance(self._device, SimDevice):
            self._device.memory.adopt(tensor, kind=kind)

    def find(self, tensor: torch.Tensor) -> Buffer | None:
        """Return what is known of a tensor's storage; None when it is nobody's."""
        if tensor.layout is not torch.strided or tensor.device.type != "cpu":
            return None
        return self._buffers.get(StorageWeakRef(tensor.untyped_storage()))

    def at(self, address: int) -> torch.Tensor:
        """Return the bytes of the storage that holds an address, ``(size,) uint8``.

        Raises:
            RuntimeError: no known storage does.
        """
        for reference, buffer in list(self._buffers.items()):
            if reference.expired():
                del self._buffers[reference]
            elif buffer.holds(address):
                return as_bytes(_storage(reference))
        raise RuntimeError(
            f"address {address:#x}: must lie in memory that is known; expected a tensor given to "
            "watch or allocated for a host pool, got none"
        )


def as_bytes(storage: torch.UntypedStorage) -> torch.Tensor:
    """Return a whole storage as ``(size,) uint8``."""
    return torch.empty(0, dtype=torch.uint8).set_(storage)


def _storage(reference: StorageWeakRef) -> torch.UntypedStorage:
    storage: torch.UntypedStorage = torch.UntypedStorage._new_with_weak_ptr(  # noqa: SLF001
        reference.cdata
    )
    return storage
