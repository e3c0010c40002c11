"""The one interface between the stacks and the hardware: memory, streams, events, launches.

Pools, host pools and controllers reach a device through these classes and through nothing else, so
that the embedded CPU device, a GPU and a simulated accelerator can take each other's place.

Ordering rules (CUDA's, for every implementation):

* operations launched on one stream take effect in launch order;
* operations on different streams are ordered only through an event that was recorded on the one
  and awaited on the other;
* the host is ordered after device work only by ``Event.synchronize``, ``Stream.synchronize``,
  ``Device.synchronize`` or an ``Event.query`` that returned true.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from assembler.device.access import Accesses
from assembler.device.host_threads.os_scheduler import OsThreadScheduler
from assembler.device.host_threads.thread_group import ThreadGroup


class Event(ABC):
    """A point in a stream's work.

    Attributes:
        name: what the event marks, for traces (``write.finish``).
    """

    def __init__(self, *, name: str) -> None:
        self.name = name

    def record(self, stream: "Stream") -> None:
        """Mark the work launched on ``stream`` so far. Order: later waits see this mark."""
        self._record(stream)

    def query(self) -> bool:
        """Return whether the marked work is done; true when nothing was recorded."""
        return self._query()

    def synchronize(self) -> None:
        """Block the host until the marked work is done."""
        self._synchronize()

    @abstractmethod
    def _record(self, stream: "Stream") -> None: ...

    @abstractmethod
    def _query(self) -> bool: ...

    @abstractmethod
    def _synchronize(self) -> None: ...


class Stream(ABC):
    """An ordered queue of device work.

    Attributes:
        name: role of the stream, for traces (``default``, ``write``, ``load``).
    """

    def __init__(self, *, name: str) -> None:
        self.name = name

    def wait_event(self, event: Event) -> None:
        """Order work launched here from now on after the event's mark. Does not block the host."""
        self._wait_event(event)

    def synchronize(self) -> None:
        """Block the host until all work launched here is done."""
        self._synchronize()

    @abstractmethod
    def hold(self, tensor: torch.Tensor) -> None:
        """Keep ``tensor``'s memory from being reused before this stream's current work is done."""

    @abstractmethod
    def _wait_event(self, event: Event) -> None: ...

    @abstractmethod
    def _synchronize(self) -> None: ...


class Device(ABC):
    """One accelerator and the host memory it can address.

    Attributes:
        kind: ``cpu``, ``sim`` or ``cuda``.
        torch_device: where device tensors live.
        has_fast_copies: whether transfers use what a GPU has beyond torch's operations, where the
            machine has it; may be set to false.
    """

    kind: str
    torch_device: torch.device
    has_fast_copies: bool = False

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Allocate device memory with undefined content."""

    @abstractmethod
    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Allocate device memory filled with zeros."""

    @abstractmethod
    def host_empty(
        self, shape: tuple[int, ...], dtype: torch.dtype, *, pin_memory: bool
    ) -> torch.Tensor:
        """Allocate host memory with undefined content, page-locked when ``pin_memory``."""

    @abstractmethod
    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Return whether ``tensor`` lies in page-locked memory of this device."""

    @abstractmethod
    def mapped(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return ``tensor`` (device memory or pinned host memory) as device kernels address it.

        The result shares memory with ``tensor``, has its shape, dtype and strides.
        """

    @abstractmethod
    def new_stream(self, name: str) -> Stream:
        """Create a stream."""

    @abstractmethod
    def new_event(self, name: str) -> Event:
        """Create an event that nothing recorded yet."""

    @abstractmethod
    def current_stream(self) -> Stream:
        """Return the stream that this thread launches on; the default stream unless switched."""

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        """Launch this thread's work on ``stream`` for the duration of the block."""
        previous = self.current_stream()
        self._switch(stream)
        try:
            yield
        finally:
            self._switch(previous)

    @abstractmethod
    def _switch(self, stream: Stream) -> None: ...

    @abstractmethod
    def launch(
        self, operation: Callable[[], object], *, label: str, reads: Accesses, writes: Accesses
    ) -> None:
        """Enqueue ``operation`` on the current stream.

        Args:
            operation: moves bytes with tensor operations; must not touch the host otherwise.
            label: names the operation in races and traces (``load KV.kv layer 2``).
            reads: all memory that it reads.
            writes: all memory that it writes.

        Order: takes effect after the current stream's earlier work, at a time of the device's
        choosing; the caller may rely on it only after synchronising. Where pageable host memory is
        touched (only copies of the ``direct`` backend do that) the host may be blocked: its content
        is read at launch, and writing to it is done when this returns.
        """

    def host_access(self, *, label: str, reads: Accesses, writes: Accesses) -> None:
        """Declare, just before it, that the host touches memory that device work may touch too.

        Does nothing except on a device that detects races, which are named by ``label``.
        """
        del label, reads, writes

    @abstractmethod
    def to_device(self, indices: torch.Tensor) -> torch.Tensor:
        """Return an index tensor in device memory; ordered before later work on this stream.

        Its content is read at once, so ``indices`` may change afterwards.
        """

    def known_slots(self, indices: torch.Tensor) -> torch.Tensor | None:
        """Return the content of an index tensor in host memory where it is known without waiting.

        None where it is not.
        """
        return indices if indices.is_cpu else None

    @abstractmethod
    def to_host(self, indices: torch.Tensor) -> torch.Tensor:
        """Return an index tensor in host memory. Blocks until its content is known.

        Order: for a tensor in device memory, the host waits for the current stream's work so far.
        """

    @abstractmethod
    def synchronize(self) -> None:
        """Block the host until all work on all streams is done."""

    def threads(self) -> ThreadGroup:
        """Return a group in which controllers may have host threads.

        On a simulated device the threads take turns at its calls, and only threads of an open
        group may call it; elsewhere they run concurrently.
        """
        return ThreadGroup(scheduler=OsThreadScheduler())
