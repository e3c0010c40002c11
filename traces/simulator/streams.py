"""Streams and events of the simulated device, and the order between them and host threads."""

from collections.abc import Callable

import torch
from typing_extensions import override

from assembler.device.base import Event, Stream
from traces.simulator.queues import (
    EventMark,
    EventWait,
    QueueExecutor,
    QueueItem,
    QueuePosition,
    StreamQueue,
)
from traces.simulator.schedule import POLLS_BEFORE_PROGRESS
from traces.simulator.thread_scheduler import DeviceCallLock
from traces.simulator.vector_clocks import TimelineRegistry, VectorClock


class StreamOrder:
    """The happens-before edges of one simulated device."""

    def __init__(
        self, *, calls: DeviceCallLock, execution: QueueExecutor, timelines: TimelineRegistry
    ) -> None:
        self._calls = calls
        self._execution = execution
        self._timelines = timelines

    def enqueue_mark(self, queue: StreamQueue, event: "SimEvent") -> None:
        """Let ``event`` mark the work of a stream so far."""
        with self._calls:
            # A second recording replaces the mark; waits enqueued before keep the first one.
            event.mark = EventMark(queue=queue, clock=self.advance(queue))
            self._push(queue, event.mark)

    def enqueue_wait(self, queue: StreamQueue, event: "SimEvent") -> None:
        """Order later work of a stream after what ``event`` marks now, if anything."""
        with self._calls:
            mark = event.mark
            # As with cudaStreamWaitEvent, waiting for an event that was never recorded orders
            # nothing, and a later recording does not count.
            if mark is not None:
                self.advance(queue)
                queue.timeline.merge_clock(mark.clock)
                self._push(queue, EventWait(mark=mark))

    def query_event(self, event: "SimEvent") -> bool:
        """Return whether the marked work is done, and if so order the host after it."""
        with self._calls:
            self._execution.offer()
            mark = event.mark
            # cudaEventQuery returns success for an event that was never recorded.
            if mark is None:
                return True
            if not mark.is_done:
                mark.query_num += 1
                # A policy that runs work as late as possible would starve a polling host.
                if mark.query_num < POLLS_BEFORE_PROGRESS:
                    self._calls.poll()
                    return False
            self._wait_for_mark(mark, what=f"event {event.name}")
            return True

    def synchronize_event(self, event: "SimEvent") -> None:
        """Block the host until the marked work is done."""
        with self._calls:
            self._execution.offer()
            if event.mark is not None:
                self._wait_for_mark(event.mark, what=f"event {event.name}")

    def synchronize_queue(self, queue: StreamQueue) -> None:
        """Block the host until the work of a stream is done."""
        with self._calls:
            self._execution.offer()
            self._synchronize_position(queue.end())

    def synchronize_all(self) -> None:
        """Block the host until the work of all streams is done."""
        with self._calls:
            self._execution.offer()
            # All ends are taken first: running one stream may let other threads launch more.
            for end in [queue.end() for queue in self._execution.queues()]:
                self._synchronize_position(end)

    def advance(self, queue: StreamQueue) -> VectorClock:
        """Begin a stream's next step, after what this thread did; return the step's clock.

        Launching is an edge from host to stream: work sees what the host did before the launch.
        """
        host = self._timelines.host()
        queue.timeline.merge_clock(host.clock)
        queue.timeline.step()
        host.step()
        return dict(queue.timeline.clock)

    def wait_for_position(self, end: QueuePosition) -> None:
        """Block this thread until a stream's work is done, without ordering it after that work."""
        queue = end.queue
        self._blocked_until(lambda: end.is_reached, queue=queue, what=str(queue.timeline))

    def _synchronize_position(self, end: QueuePosition) -> None:
        self.wait_for_position(end)
        self._timelines.host().merge_clock(end.clock)

    def _wait_for_mark(self, mark: EventMark, *, what: str) -> None:
        self._blocked_until(lambda: mark.is_done, queue=mark.queue, what=what)
        self._timelines.host().merge_clock(mark.clock)

    def _blocked_until(self, is_over: Callable[[], bool], *, queue: StreamQueue, what: str) -> None:
        """Block this thread on the device: the one place where that happens."""
        scheduler = self._calls.scheduler
        if scheduler is None:
            self._execution.blocked_until(is_over, queue=queue)
        else:
            scheduler.wait_for_device(is_over, queue=queue, what=what)

    def _push(self, queue: StreamQueue, item: QueueItem) -> None:
        queue.push(item)
        self._execution.offer()


class SimStream(Stream):
    """A stream of a simulated device; it waits for other streams through events only.

    Its ``order`` tells a device's streams from those of others.
    """

    def __init__(self, *, name: str, order: StreamOrder, queue: StreamQueue) -> None:
        super().__init__(name=name)
        self.order = order
        self.queue = queue

    @override
    def hold(self, tensor: torch.Tensor) -> None:
        # Queued work refers to its tensors, so their memory cannot be reused before it is done.
        # On a GPU the caching allocator would reuse it without record_stream.
        del tensor

    @override
    def _wait_event(self, event: Event) -> None:
        self.order.enqueue_wait(self.queue, require_event(event, self.order))

    @override
    def _synchronize(self) -> None:
        self.order.synchronize_queue(self.queue)


class SimEvent(Event):
    """An event of a simulated device.

    Attributes:
        mark: the latest recording; None before the first.
    """

    def __init__(self, *, name: str, order: StreamOrder) -> None:
        super().__init__(name=name)
        self.order = order
        self.mark: EventMark | None = None

    @override
    def _record(self, stream: Stream) -> None:
        self.order.enqueue_mark(require_stream(stream, self.order).queue, self)

    @override
    def _query(self) -> bool:
        return self.order.query_event(self)

    @override
    def _synchronize(self) -> None:
        self.order.synchronize_event(self)


def require_stream(stream: Stream, order: StreamOrder) -> SimStream:
    """Return ``stream`` as a stream of the device that ``order`` belongs to.

    Raises:
        TypeError: it belongs to another device.
    """
    if not isinstance(stream, SimStream) or stream.order is not order:
        raise TypeError(f"stream: must belong to the device; expected its SimStream, got {stream}")
    return stream


def require_event(event: Event, order: StreamOrder) -> SimEvent:
    """Return ``event`` as an event of the device that ``order`` belongs to.

    Raises:
        TypeError: it belongs to another device.
    """
    if not isinstance(event, SimEvent) or event.order is not order:
        raise TypeError(f"event: must belong to the device; expected its SimEvent, got {event}")
    return event
