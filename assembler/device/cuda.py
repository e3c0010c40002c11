"""An NVIDIA GPU: torch.cuda streams and events, page-locked host memory mapped into the device.

Page-locked memory has one address for host and device (unified virtual addressing), so a kernel
reads and writes a host pool in place. torch sees that memory through ``__cuda_array_interface__``.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.utils.weak import WeakIdKeyDictionary
from typing_extensions import override

from assembler.device.access import Accesses
from assembler.device.base import Device, Event, Stream
from assembler.device.locked_memory import cpus_beside, locked_bytes
from assembler.device.row_report import RowReport
from assembler.errors import OutOfDeviceMemoryError, PoolError

# An H200, which has 132 multiprocessors, reads and writes host memory as fast with 16 as with all
# of them; between two places in device memory 32 move 450 GB/s, eight times as much as PCIe.
COPY_PROGRAMS = 16
STAGING_PROGRAMS = 32
# Each of four parts is on its way for a millisecond: what the host does for the next takes 0.2.
STAGING_BYTES = 256 << 20

# Smaller memory comes from torch, which keeps it for the next tensor.
_FEWEST_LOCKED_BYTES = 256 << 20
# cudaHostRegisterPortable and cudaHostRegisterMapped.
_MAPPED_EVERYWHERE = 3


class CudaStream(Stream):
    """A ``torch.cuda.Stream`` with a name.

    Attributes:
        torch_stream: the wrapped stream.
        handle: of the driver.
    """

    def __init__(
        self, *, name: str, torch_stream: torch.cuda.Stream, row_report: RowReport
    ) -> None:
        super().__init__(name=name)
        self.torch_stream = torch_stream
        self.handle = int(torch_stream.cuda_stream)
        self._row_report = row_report

    @override
    def hold(self, tensor: torch.Tensor) -> None:
        # The caching allocator may hand freed memory to another tensor of the stream that allocated
        # it, at once: it does not know that this stream still reads. Only CUDA tensors need it.
        if tensor.is_cuda:
            tensor.record_stream(self.torch_stream)

    @override
    def _wait_event(self, event: Event) -> None:
        self.torch_stream.wait_event(_as_cuda_event(event).torch_event)

    @override
    def _synchronize(self) -> None:
        self.torch_stream.synchronize()
        self._row_report.check()


class CudaEvent(Event):
    """A ``torch.cuda.Event`` with a name and without timing.

    Attributes:
        torch_event: the wrapped event; created on the device when it is first recorded.
    """

    def __init__(self, *, name: str, row_report: RowReport) -> None:
        super().__init__(name=name)
        self._row_report = row_report
        # Timing makes every record slower; nothing here measures.
        self.torch_event = torch.cuda.Event(enable_timing=False)

    @override
    def _record(self, stream: Stream) -> None:
        # Recording again moves the mark: waits enqueued before keep the old one, later waits and
        # queries see the new one. An event that was never recorded counts as done.
        self.torch_event.record(_as_cuda_stream(stream).torch_stream)

    @override
    def _query(self) -> bool:
        is_done = bool(self.torch_event.query())
        if is_done:
            self._row_report.check()
        return is_done

    @override
    def _synchronize(self) -> None:
        self.torch_event.synchronize()
        self._row_report.check()


class _MappedHostBytes:
    """Page-locked bytes that present themselves as device memory; keeps the tensor alive."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        return {
            "shape": (self._tensor.untyped_storage().nbytes(),),
            "typestr": "|u1",
            "data": (self._tensor.untyped_storage().data_ptr(), False),
            "strides": None,
            "version": 3,
        }


class _CurrentCudaStream(threading.local):
    """The stream each thread launches on."""

    def __init__(self, default_stream: CudaStream) -> None:
        self.stream = default_stream


class CudaDevice(Device):
    """One GPU, by its ordinal among the visible ones.

    Rows outside of their buffer, which a copy kernel met, raise TransferError where the host learns
    that work is done: when an event, a stream or the device is synchronised, or a query says so.

    Attributes:
        ordinal: its number among the visible GPUs.
        copy_programs: multiprocessors that a kernel which reads or writes host memory occupies at
            most; may be set.
        staging_programs: multiprocessors that a kernel between two places in device memory occupies
            at most; may be set.
        staging_bytes: device memory through which a backend backs rows up; may be set before the
            first move, 0 for none.
        row_report_word: where copy kernels report such a row; page-locked host memory.
    """

    kind = "cuda"

    def __init__(self, *, ordinal: int) -> None:
        self.torch_device = torch.device("cuda", ordinal)
        self.ordinal = ordinal
        self.has_fast_copies = True
        self.copy_programs = COPY_PROGRAMS
        self.staging_programs = STAGING_PROGRAMS
        self.staging_bytes = STAGING_BYTES
        self._sources = WeakIdKeyDictionary()
        # torch's allocator does not see kernels that read page-locked memory in place.
        self._upload_lock = threading.Lock()
        self._read_by_kernels: deque[tuple[torch.cuda.Event, torch.Tensor]] = deque()
        word = torch.zeros(1, dtype=torch.int64, pin_memory=True)
        self._row_report = RowReport(word)
        self.row_report_word = self.mapped(word)
        # torch creates streams non-blocking, so the default stream (the legacy one) orders nothing
        # with them: every order between two streams needs an event.
        default = torch.cuda.default_stream(self.torch_device)
        self._state = _CurrentCudaStream(self._named("default", default))

    @override
    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        with _memory_errors(shape, dtype):
            return torch.empty(shape, dtype=dtype, device=self.torch_device)

    @override
    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        with _memory_errors(shape, dtype):
            return torch.zeros(shape, dtype=dtype, device=self.torch_device)

    @override
    def host_empty(
        self, shape: tuple[int, ...], dtype: torch.dtype, *, pin_memory: bool
    ) -> torch.Tensor:
        size = math.prod(shape) * dtype.itemsize
        if not pin_memory or size < _FEWEST_LOCKED_BYTES:
            return torch.empty(shape, dtype=dtype, device="cpu", pin_memory=pin_memory)
        with torch.cuda.device(self.torch_device):
            memory = locked_bytes(
                size,
                register=_register,
                unregister=_unregister,
                cpus=cpus_beside(self.torch_device),
            )
        return memory.view(dtype).view(shape)

    @override
    def is_pinned(self, tensor: torch.Tensor) -> bool:
        return tensor.is_pinned()

    @override
    def mapped(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_cuda or tensor.numel() == 0:
            return tensor
        if not tensor.is_pinned():
            subject, rule = "mapped host memory", "must be page-locked for device kernels"
            raise PoolError(subject, rule, expected="pinned memory", got="pageable memory")
        # The result keeps the host tensor alive, but torch's pinned-memory allocator does not see
        # kernels that use this address: the buffer must not be freed while one may run.
        storage = torch.as_tensor(_MappedHostBytes(tensor), device=self.torch_device)
        start = tensor.storage_offset()
        return storage.view(tensor.dtype).as_strided(tensor.shape, tensor.stride(), start)

    @override
    def new_stream(self, name: str) -> Stream:
        return self._named(name, torch.cuda.Stream(self.torch_device))

    @override
    def new_event(self, name: str) -> Event:
        return CudaEvent(name=name, row_report=self._row_report)

    @override
    def current_stream(self) -> Stream:
        if self._state.stream.handle == self.stream_handle():
            return self._state.stream
        # The stream was switched by torch.cuda.stream: launches go there, so it is returned.
        return self._named("foreign", torch.cuda.current_stream(self.ordinal))

    def stream_handle(self) -> int:
        """Return the driver's handle of the stream that this thread launches on; 0 by default."""
        # torch.cuda.current_stream makes an object, which takes thirty times as long.
        return int(torch._C._cuda_getCurrentRawStream(self.ordinal))  # noqa: SLF001

    @override
    def _switch(self, stream: Stream) -> None:
        chosen = _as_cuda_stream(stream)
        torch.cuda.set_stream(chosen.torch_stream)
        self._state.stream = chosen

    @override
    def launch(
        self, operation: Callable[[], object], *, label: str, reads: Accesses, writes: Accesses
    ) -> None:
        del label
        operation()
        # Slots and buffers may have been allocated on the caller's stream, and freed while this
        # operation is still queued here.
        stream = self.current_stream()
        # Many copies of one operation have the same slots.
        for tensor in {id(access.tensor): access.tensor for access in (*reads, *writes)}.values():
            stream.hold(tensor)

    @override
    def to_device(self, indices: torch.Tensor) -> torch.Tensor:
        if indices.is_cuda:
            return indices
        # A copy from pageable memory would first wait for the stream's earlier work.
        pinned = indices.pin_memory()
        there = self._upload(pinned)
        # A tensor that was pinned before is the caller's own and may change.
        self._sources[there] = (pinned.clone() if pinned is indices else pinned, there._version)  # noqa: SLF001
        return there

    def _upload(self, pinned: torch.Tensor) -> torch.Tensor:
        """Return page-locked numbers in device memory; a kernel reads them on the current stream.

        A copy engine would do all pages of a load first that another stream has launched.
        """
        if pinned.numel() == 0 or pinned.dtype != torch.int64:
            # torch's allocator keeps the temporary until its copy is done.
            return pinned.to(self.torch_device, non_blocking=True)
        there = torch.add(self.mapped(pinned), 0)
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(self.torch_device))
        with self._upload_lock:
            held = self._read_by_kernels
            held.append((done, pinned))
            while held and held[0][0].query():
                held.popleft()
        return there

    @override
    def known_slots(self, indices: torch.Tensor) -> torch.Tensor | None:
        source: tuple[torch.Tensor, int] | None = self._sources.get(indices)
        # torch counts the changes of a tensor in place.
        if source is None or source[1] != indices._version:  # noqa: SLF001
            return super().known_slots(indices)
        return source[0]

    @override
    def to_host(self, indices: torch.Tensor) -> torch.Tensor:
        # Blocks until the current stream gets here, which must have waited for other writers.
        return indices.cpu()

    @override
    def synchronize(self) -> None:
        torch.cuda.synchronize(self.torch_device)
        self._row_report.check()

    def _named(self, name: str, torch_stream: torch.cuda.Stream) -> CudaStream:
        return CudaStream(name=name, torch_stream=torch_stream, row_report=self._row_report)


@contextmanager
def _memory_errors(shape: tuple[int, ...], dtype: torch.dtype) -> Iterator[None]:
    """Raise OutOfDeviceMemoryError for torch's error."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        rule, expected = "must hold what is allocated", math.prod(shape) * dtype.itemsize
        got = str(error).partition("\n")[0]
        raise OutOfDeviceMemoryError(
            "device memory", rule, expected=f"room for {expected} bytes", got=got
        ) from error


def _register(address: int, size: int) -> bool:
    return int(torch.cuda.cudart().cudaHostRegister(address, size, _MAPPED_EVERYWHERE)) == 0


def _unregister(address: int) -> None:
    torch.cuda.cudart().cudaHostUnregister(address)


def _as_cuda_stream(stream: Stream) -> CudaStream:
    if not isinstance(stream, CudaStream):
        raise TypeError(f"stream: must belong to the device; expected CudaStream, got {stream}")
    return stream


def _as_cuda_event(event: Event) -> CudaEvent:
    if not isinstance(event, CudaEvent):
        raise TypeError(f"event: must belong to the device; expected CudaEvent, got {event}")
    return event
