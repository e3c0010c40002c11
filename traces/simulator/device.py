"""A simulated accelerator: launched work runs later, when the schedule says so."""

import itertools
import threading
from collections.abc import Callable

import torch
from typing_extensions import override

from assembler.device.access import Accesses, MemoryAccess, tensor_access
from assembler.device.base import Device, Event, Stream
from assembler.device.host_threads.thread_group import ThreadGroup
from assembler.errors import PoolError
from traces.simulator.memory import MemoryKind, SimulatedMemory
from traces.simulator.queues import QueuedOperation, QueueExecutor
from traces.simulator.race_detector import RaceDetector
from traces.simulator.races import Accessor, DetectedRace, RaceError, find_launch_site
from traces.simulator.schedule import Schedule
from traces.simulator.streams import SimEvent, SimStream, StreamOrder, require_stream
from traces.simulator.thread_scheduler import DeviceCallLock, SimulatedThreadScheduler
from traces.simulator.vector_clocks import Timeline, TimelineRegistry, VectorClock


class _CurrentSimStream(threading.local):
    """The stream that a host thread switched to; None for the default stream."""

    stream: SimStream | None = None


class SimDevice(Device):
    """A device in host memory with CUDA's ordering rules, a schedule and a race detector.

    Streams are ordered by events only; the default stream is an ordinary one, as under
    ``--default-stream per-thread``. A launched operation runs at a host call of the schedule's
    choosing, at the latest when the host waits for it. Index tensors are the exception:
    :meth:`to_device`, :meth:`to_host` and :meth:`zeros` have their content at once, because torch
    computes with them outside of launched operations. The race detector treats them like other
    work of the current stream.

    Unordered accesses to the same bytes are collected in :attr:`races`, whether or not this
    execution showed wrong bytes. An operation is checked when it runs, so read the races after
    :meth:`synchronize`.

    Memory counts as device memory or pinned when this device allocated it, everything else is
    pageable. A copy that touches pageable memory blocks the host until it is done; what it reads
    there is read at launch.

    All methods may be called from several threads. Those of a :meth:`threads` block take turns at
    these calls as the schedule says, so the seed decides about them too; other threads must not
    call while a block is open. An error of an operation is raised by the host call during which
    it ran.

    Args:
        schedule: decides what runs when.
        capacity_bytes: of device memory; None for no limit.
        raise_races: whether to raise a race when it is found.
    """

    kind = "sim"

    def __init__(
        self, *, schedule: Schedule, capacity_bytes: int | None, raise_races: bool
    ) -> None:
        self.torch_device = torch.device("cpu")
        self.schedule = schedule
        self.memory = SimulatedMemory(capacity_bytes=capacity_bytes)
        self._raise_races = raise_races
        self._detector = RaceDetector(memory=self.memory)
        self._calls = DeviceCallLock()
        self._timelines = TimelineRegistry()
        self._launches = itertools.count()
        self._execution = QueueExecutor(schedule=schedule, check=self._check)
        self._order = StreamOrder(
            calls=self._calls, execution=self._execution, timelines=self._timelines
        )
        self._default_stream = self._open_stream("default")
        self._thread = _CurrentSimStream()

    @property
    def races(self) -> list[DetectedRace]:
        """The races found so far."""
        return self._detector.races

    @override
    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        with self._calls:
            return self.memory.allocate(shape, dtype, kind=MemoryKind.DEVICE)

    @override
    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        with self._calls:
            tensor = self.memory.allocate(shape, dtype, kind=MemoryKind.DEVICE).zero_()
            self._enqueue_written(tensor, label="fill with zeros")
            return tensor

    @override
    def host_empty(
        self, shape: tuple[int, ...], dtype: torch.dtype, *, pin_memory: bool
    ) -> torch.Tensor:
        kind = MemoryKind.PINNED if pin_memory else MemoryKind.PAGEABLE
        with self._calls:
            return self.memory.allocate(shape, dtype, kind=kind)

    @override
    def is_pinned(self, tensor: torch.Tensor) -> bool:
        with self._calls.without_scheduling():
            return self.memory.kind(tensor) is MemoryKind.PINNED

    @override
    def mapped(self, tensor: torch.Tensor) -> torch.Tensor:
        with self._calls.without_scheduling():
            if tensor.numel() and self.memory.is_pageable(tensor):
                subject, rule = "mapped host memory", "must be page-locked for device kernels"
                raise PoolError(subject, rule, expected="pinned memory", got="pageable memory")
        return tensor

    @override
    def new_stream(self, name: str) -> Stream:
        with self._calls:
            return self._open_stream(name)

    @override
    def new_event(self, name: str) -> Event:
        return SimEvent(name=name, order=self._order)

    @override
    def current_stream(self) -> Stream:
        return self._current()

    @override
    def _switch(self, stream: Stream) -> None:
        self._thread.stream = require_stream(stream, self._order)

    @override
    def launch(
        self, operation: Callable[[], object], *, label: str, reads: Accesses, writes: Accesses
    ) -> None:
        with self._calls:
            # cudaMemcpyAsync stages pageable memory through a pinned buffer: the host has read the
            # source when the call returns, so the read belongs to the host and not to the stream.
            host_reads = tuple(access for access in reads if self._is_pageable(access))
            if host_reads:
                self._touch(label=f"{label}: read pageable memory", reads=host_reads, writes=())
                reads = tuple(access for access in reads if access not in host_reads)
            clock = self._enqueue(operation, label=label, reads=reads, writes=writes)
            host_writes = any(map(self._is_pageable, writes))
            if host_reads or host_writes:
                self._order.wait_for_position(self._current().queue.end())
            # Blocking alone is no edge; only a copy back to pageable memory is host-synchronous.
            if host_writes:
                self._timelines.host().merge_clock(clock)
            self._execution.offer()

    @override
    def host_access(self, *, label: str, reads: Accesses, writes: Accesses) -> None:
        with self._calls:
            self._execution.offer()
            self._touch(label=label, reads=reads, writes=writes)

    @override
    def to_device(self, indices: torch.Tensor) -> torch.Tensor:
        with self._calls:
            if self.memory.kind(indices) is MemoryKind.DEVICE:
                return indices
            self._touch(label="read indices", reads=(tensor_access(indices),), writes=())
            shape = tuple(indices.shape)
            copied = self.memory.allocate(shape, indices.dtype, kind=MemoryKind.DEVICE)
            # torch would compute with the indices before the simulated copy ran: copy the bytes
            # now, and record only the ordering.
            copied.copy_(indices)
            self._enqueue_written(copied, label="copy indices")
            return copied

    @override
    def to_host(self, indices: torch.Tensor) -> torch.Tensor:
        with self._calls:
            if self.memory.kind(indices) is not MemoryKind.DEVICE:
                return indices
            # A copy to the host synchronises its own stream and no other, as tensor.cpu() does.
            fetched = torch.empty_like(indices)
            self._enqueue(
                lambda: fetched.copy_(indices),
                label="fetch indices",
                reads=(tensor_access(indices),),
                writes=(),
            )
            self._execution.offer()
            self._order.synchronize_queue(self._current().queue)
            return fetched

    @override
    def synchronize(self) -> None:
        with self._calls:
            self._order.synchronize_all()
            # Another thread may have touched memory without synchronising: its accesses count.
            if self._timelines.is_one_thread:
                self._reset_clocks()

    @override
    def threads(self) -> ThreadGroup:
        return ThreadGroup(
            scheduler=SimulatedThreadScheduler(
                calls=self._calls,
                execution=self._execution,
                timelines=self._timelines,
                schedule=self.schedule,
            )
        )

    def _open_stream(self, name: str) -> SimStream:
        queue = self._execution.open_queue(self._timelines.stream(name))
        stream = SimStream(name=name, order=self._order, queue=queue)
        self._execution.set_owner(queue, stream)
        return stream

    def _current(self) -> SimStream:
        return self._default_stream if self._thread.stream is None else self._thread.stream

    def _enqueue_written(self, tensor: torch.Tensor, *, label: str) -> None:
        """Enqueue work whose bytes are already in place in ``tensor``."""
        self._enqueue(lambda: None, label=label, reads=(), writes=(tensor_access(tensor),))
        self._execution.offer()

    def _enqueue(
        self, run: Callable[[], object], *, label: str, reads: Accesses, writes: Accesses
    ) -> VectorClock:
        queue = self._current().queue
        clock = self._order.advance(queue)
        step = clock[queue.timeline.number]
        accessor = self._new_accessor(
            queue.timeline, step=step, label=label, accesses=(reads, writes)
        )
        queue.push(
            QueuedOperation(run=run, accessor=accessor, clock=clock, reads=reads, writes=writes)
        )
        return clock

    def _touch(self, *, label: str, reads: Accesses, writes: Accesses) -> None:
        """Check an access by this host thread for races."""
        host = self._timelines.host()
        accessor = self._new_accessor(host, step=host.step(), label=label, accesses=(reads, writes))
        self._check(
            QueuedOperation(
                run=lambda: None, accessor=accessor, clock=host.clock, reads=reads, writes=writes
            )
        )

    def _new_accessor(
        self, timeline: Timeline, *, step: int, label: str, accesses: tuple[Accesses, Accesses]
    ) -> Accessor:
        reads, writes = (
            frozenset(self.memory.kind(access.tensor) for access in side) for side in accesses
        )
        return Accessor(
            timeline=timeline,
            step=step,
            order=next(self._launches),
            label=label,
            site=find_launch_site(),
            reads=reads,
            writes=writes,
        )

    def _check(self, operation: QueuedOperation) -> None:
        found = self._detector.check(operation)
        if found and self._raise_races:
            rule = "conflicting accesses must be ordered"
            raise RaceError("race", rule, expected="an edge", got=found[0])

    def _reset_clocks(self) -> None:
        """Forget the past: all of it happened before anything that follows."""
        self._detector.forget_accesses()
        self._timelines.host().forget()
        for queue in self._execution.queues():
            queue.timeline.forget()

    def _is_pageable(self, access: MemoryAccess) -> bool:
        return self.memory.is_pageable(access.tensor)
