"""The simulated accelerator: what is launched happens later, when the schedule says so."""

import itertools
import threading
from collections.abc import Callable

import torch
from typing_extensions import override

from assembler.device.access import MemoryAccess, tensor_access
from assembler.device.base import Device, Event, Stream
from assembler.device.host_threads.thread_group import ThreadGroup
from assembler.errors import PoolError, RaceError
from traces.simulator.device_call_lock import POLLS_BEFORE_PROGRESS, DeviceCallLock
from traces.simulator.execution import QueueExecutor
from traces.simulator.launch_sites import find_launch_site
from traces.simulator.memory import MemoryKind, SimulatedMemory
from traces.simulator.queues import (
    EventMark,
    EventWait,
    QueuedOperation,
    QueueItem,
    QueuePosition,
    StreamQueue,
)
from traces.simulator.race_detector import RaceDetector
from traces.simulator.races import Accessor, Race
from traces.simulator.schedule import Schedule
from traces.simulator.streams import SimEvent, SimStream
from traces.simulator.thread_scheduler import SimulatedThreadScheduler
from traces.simulator.timelines import TimelineRegistry
from traces.simulator.vector_clocks import Timeline, VectorClock


class _CurrentSimStream(threading.local):
    """The stream a host thread switched to; None for the default stream."""

    stream: SimStream | None = None


class SimDevice(Device):
    """A device in host memory with CUDA's rules of order, a schedule and a race detector.

    Streams are ordered by events only, the default stream is one like the others. A launched
    operation happens at a host call of the schedule's choosing, at the latest when the host waits
    for it. Index tensors are the exception: :meth:`to_device`, :meth:`to_host` and :meth:`zeros`
    have their content at once, because torch computes with them outside of launched operations.
    The race detector treats them like other work of the current stream.

    Accesses to the same bytes that nothing orders are collected in :attr:`races`, whether or not
    this execution showed wrong bytes. An operation is looked at when it happens, so ask after
    :meth:`synchronize`.

    Memory counts as device memory or pinned when this device allocated it, everything else is
    pageable. A copy that touches pageable memory blocks the host until it is done; what it reads
    there is read at launch.

    All methods may be called from several threads. Those of a :meth:`threads` block take turns at
    these calls as the schedule says, so that the seed decides about them too; other threads must
    not call while a block is open. An error of an operation is raised by the host
    call during which it happened.

    Args:
        schedule: decides what happens when.
        capacity_bytes: of device memory; None for no limit.
        raise_races: whether to raise a race when it is found.

    Attributes:
        schedule: the decisions so far.
        memory: what is allocated; makes allocations fail.
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
        self._execution = QueueExecutor(schedule=schedule, check=self._check_operation)
        self._default_stream = self._open_stream("default")
        self._thread = _CurrentSimStream()

    @property
    def races(self) -> list[Race]:
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
            self._enqueue_done(label="fill with zeros", reads=(), writes=(tensor_access(tensor),))
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
                raise PoolError(
                    "mapped host memory",
                    "must be page-locked for device kernels",
                    expected="pinned memory",
                    got="pageable memory",
                )
        return tensor

    @override
    def new_stream(self, name: str) -> Stream:
        with self._calls:
            return self._open_stream(name)

    @override
    def new_event(self, name: str) -> Event:
        return SimEvent(name=name, device=self)

    @override
    def current_stream(self) -> Stream:
        return self._current()

    @override
    def _switch(self, stream: Stream) -> None:
        self._thread.stream = self._own_stream(stream)

    @override
    def launch(
        self,
        operation: Callable[[], None],
        *,
        label: str,
        reads: tuple[MemoryAccess, ...],
        writes: tuple[MemoryAccess, ...],
    ) -> None:
        with self._calls:
            host_reads = tuple(access for access in reads if self._is_pageable(access))
            if host_reads:
                self._touch(label=f"{label}: read pageable memory", reads=host_reads, writes=())
                reads = tuple(access for access in reads if access not in host_reads)
            clock = self._enqueue(operation, label=label, reads=reads, writes=writes)
            host_writes = any(map(self._is_pageable, writes))
            if host_reads or host_writes:
                self._wait_for_position(self._current().queue.end())
            if host_writes:
                self._timelines.host().merge_clock(clock)
            self._execution.offer()

    @override
    def host_access(
        self, *, label: str, reads: tuple[MemoryAccess, ...], writes: tuple[MemoryAccess, ...]
    ) -> None:
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
            copied.copy_(indices)
            self._enqueue_done(label="copy indices", reads=(), writes=(tensor_access(copied),))
            return copied

    @override
    def to_host(self, indices: torch.Tensor) -> torch.Tensor:
        with self._calls:
            if self.memory.kind(indices) is not MemoryKind.DEVICE:
                return indices
            fetched = torch.empty_like(indices)
            self._enqueue(
                lambda: fetched.copy_(indices),
                label="fetch indices",
                reads=(tensor_access(indices),),
                writes=(),
            )
            self._execution.offer()
            self.synchronize_stream(self._current())
            return fetched

    @override
    def synchronize(self) -> None:
        with self._calls:
            self._execution.offer()
            for end in [queue.end() for queue in self._execution.queues()]:
                self._wait_for_position(end)
                self._timelines.host().merge_clock(end.clock)
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

    def enqueue_mark(self, stream: Stream, event: SimEvent) -> None:
        """Let ``event`` mark the work of ``stream`` so far."""
        with self._calls:
            queue = self._own_stream(stream).queue
            clock = self._advance(queue)
            event.mark = EventMark(queue=queue, clock=clock, is_done=False, query_num=0)
            self._push(queue, event.mark)

    def enqueue_wait(self, stream: Stream, event: Event) -> None:
        """Order later work of ``stream`` after what ``event`` marks now, if anything."""
        with self._calls:
            mark = self._own_event(event).mark
            queue = self._own_stream(stream).queue
            if mark is not None:
                self._advance(queue)
                queue.timeline.merge_clock(mark.clock)
                self._push(queue, EventWait(mark=mark))

    def query_event(self, event: SimEvent) -> bool:
        """Return whether the marked work is done, and if so order the host after it."""
        with self._calls:
            self._execution.offer()
            mark = event.mark
            if mark is None:
                return True
            if not mark.is_done:
                mark.query_num += 1
                if mark.query_num < POLLS_BEFORE_PROGRESS:
                    self._calls.poll()
                    return False
            self._wait_for_mark(mark, what=f"event {event.name}")
            return True

    def synchronize_event(self, event: SimEvent) -> None:
        """Block the host until the marked work is done."""
        with self._calls:
            self._execution.offer()
            if event.mark is not None:
                self._wait_for_mark(event.mark, what=f"event {event.name}")

    def synchronize_stream(self, stream: SimStream) -> None:
        """Block the host until the stream's work is done."""
        with self._calls:
            self._execution.offer()
            end = stream.queue.end()
            self._wait_for_position(end)
            self._timelines.host().merge_clock(end.clock)

    def host_clock(self) -> VectorClock:
        """Return what has happened before this thread's next step, to hand to another thread."""
        with self._calls:
            party = self._timelines.host()
            party.step()
            return dict(party.clock)

    def merge_host_clock(self, clock: VectorClock) -> None:
        """Order this thread after another one, which handed over its :meth:`host_clock`."""
        with self._calls:
            self._timelines.host().merge_clock(clock)

    def _open_stream(self, name: str) -> SimStream:
        queue = self._execution.open_queue(self._timelines.stream(name))
        stream = SimStream(name=name, device=self, queue=queue)
        self._execution.set_owner(queue, stream)
        return stream

    def _current(self) -> SimStream:
        return self._default_stream if self._thread.stream is None else self._thread.stream

    def _enqueue_done(
        self, *, label: str, reads: tuple[MemoryAccess, ...], writes: tuple[MemoryAccess, ...]
    ) -> None:
        """Enqueue work whose bytes are there already."""
        self._enqueue(lambda: None, label=label, reads=reads, writes=writes)
        self._execution.offer()

    def _enqueue(
        self,
        run: Callable[[], object],
        *,
        label: str,
        reads: tuple[MemoryAccess, ...],
        writes: tuple[MemoryAccess, ...],
    ) -> VectorClock:
        queue = self._current().queue
        clock = self._advance(queue)
        party = queue.timeline
        actor = self._new_accessor(party, step=clock[party.number], label=label)
        operation = QueuedOperation(
            run=run, accessor=actor, clock=clock, reads=reads, writes=writes
        )
        queue.push(operation)
        return clock

    def _advance(self, queue: StreamQueue) -> VectorClock:
        """Begin a stream's next step, after what this thread did; return the step's clock."""
        host = self._timelines.host()
        queue.timeline.merge_clock(host.clock)
        queue.timeline.step()
        host.step()
        return dict(queue.timeline.clock)

    def _push(self, queue: StreamQueue, item: QueueItem) -> None:
        queue.push(item)
        self._execution.offer()

    def _touch(
        self, *, label: str, reads: tuple[MemoryAccess, ...], writes: tuple[MemoryAccess, ...]
    ) -> None:
        """Look for races of an access by this thread."""
        host = self._timelines.host()
        actor = self._new_accessor(host, step=host.step(), label=label)
        self._check(actor, host.clock, reads, writes)

    def _new_accessor(self, timeline: Timeline, *, step: int, label: str) -> Accessor:
        order = next(self._launches)
        return Accessor(
            timeline=timeline, step=step, order=order, label=label, site=find_launch_site()
        )

    def _check(
        self,
        accessor: Accessor,
        clock: VectorClock,
        reads: tuple[MemoryAccess, ...],
        writes: tuple[MemoryAccess, ...],
    ) -> None:
        found = self._detector.check(accessor=accessor, clock=clock, reads=reads, writes=writes)
        if found and self._raise_races:
            race = found[0]
            raise RaceError(
                "race", "conflicting accesses must be ordered", expected="an edge", got=race
            )

    def _check_operation(self, operation: QueuedOperation) -> None:
        self._check(operation.accessor, operation.clock, operation.reads, operation.writes)

    def _wait_for_position(self, end: QueuePosition) -> None:
        """Block this thread until a stream's work is done."""
        queue = end.queue
        self._blocked_until(lambda: end.is_reached, queue=queue, what=str(queue.timeline))

    def _wait_for_mark(self, mark: EventMark, *, what: str) -> None:
        self._blocked_until(lambda: mark.is_done, queue=mark.queue, what=what)
        self._timelines.host().merge_clock(mark.clock)

    def _blocked_until(
        self, is_over: Callable[[], bool], *, queue: StreamQueue | None, what: str
    ) -> None:
        """Block this thread on the device: the one place where that happens."""
        turns = self._calls.scheduler
        if turns is None:
            self._execution.blocked_until(is_over, queue=queue)
        else:
            turns.wait_for_device(is_over, queue=queue, what=what)

    def _reset_clocks(self) -> None:
        """Forget what happened: all of it did before anything that follows."""
        self._detector.forget_accesses()
        self._timelines.host().forget()
        for queue in self._execution.queues():
            queue.timeline.forget()

    def _is_pageable(self, access: MemoryAccess) -> bool:
        return self.memory.is_pageable(access.tensor)

    def _own_stream(self, stream: Stream) -> SimStream:
        if not isinstance(stream, SimStream) or stream.device is not self:
            raise TypeError(
                f"stream: must belong to the device; expected its SimStream, got {stream}"
            )
        return stream

    def _own_event(self, event: Event) -> SimEvent:
        if not isinstance(event, SimEvent) or event.device is not self:
            raise TypeError(f"event: must belong to the device; expected its SimEvent, got {event}")
        return event
