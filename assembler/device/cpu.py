"""The eager device: host memory on both sides, every operation executed at launch.

Streams and events keep to the interface; they never wait, because nothing is ever pending.
"""

import threading
from collections.abc import Callable

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from typing_extensions import override

from assembler.device.access import Accesses
from assembler.device.base import Device, Event, Stream


class CpuEvent(Event):
    """An event on work that is already done."""

    @override
    def _record(self, stream: Stream) -> None:
        del stream

    @override
    def _query(self) -> bool:
        return True

    @override
    def _synchronize(self) -> None:
        return


class CpuStream(Stream):
    """A stream whose queue is always empty."""

    @override
    def hold(self, tensor: torch.Tensor) -> None:
        del tensor

    @override
    def _wait_event(self, event: Event) -> None:
        del event

    @override
    def _synchronize(self) -> None:
        return


class _CurrentCpuStream(threading.local):
    """The stream each thread launches on."""

    def __init__(self, default_stream: Stream) -> None:
        self.stream = default_stream


class CpuDevice(Device):
    """Eager device in host memory.

    Memory counts as pinned when :meth:`host_empty` returned it with ``pin_memory=True``. The
    registry holds weak references to storages, so freed memory does not stay pinned by address.
    """

    kind = "cpu"

    def __init__(self) -> None:
        self.torch_device = torch.device("cpu")
        self._state = _CurrentCpuStream(CpuStream(name="default"))
        self._pinned: set[StorageWeakRef] = set()

    @override
    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=self.torch_device)

    @override
    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=self.torch_device)

    @override
    def host_empty(
        self, shape: tuple[int, ...], dtype: torch.dtype, *, pin_memory: bool
    ) -> torch.Tensor:
        tensor = torch.empty(shape, dtype=dtype, device="cpu")
        if pin_memory:
            living = {reference for reference in self._pinned if not reference.expired()}
            self._pinned = {*living, StorageWeakRef(tensor.untyped_storage())}
        return tensor

    @override
    def is_pinned(self, tensor: torch.Tensor) -> bool:
        return StorageWeakRef(tensor.untyped_storage()) in self._pinned

    @override
    def mapped(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    @override
    def new_stream(self, name: str) -> Stream:
        return CpuStream(name=name)

    @override
    def new_event(self, name: str) -> Event:
        return CpuEvent(name=name)

    @override
    def current_stream(self) -> Stream:
        return self._state.stream

    @override
    def _switch(self, stream: Stream) -> None:
        self._state.stream = stream

    @override
    def launch(
        self, operation: Callable[[], object], *, label: str, reads: Accesses, writes: Accesses
    ) -> None:
        del label, reads, writes
        operation()

    @override
    def to_device(self, indices: torch.Tensor) -> torch.Tensor:
        return indices

    @override
    def to_host(self, indices: torch.Tensor) -> torch.Tensor:
        return indices

    @override
    def synchronize(self) -> None:
        return
