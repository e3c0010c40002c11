"""Order between streams, events and host threads: recording, waiting, querying, synchronising."""

from collections.abc import Callable
from typing import Protocol

from traces.simulator.device_call_lock import DeviceCallLock
from traces.simulator.execution import QueueExecutor
from traces.simulator.queues import EventMark, EventWait, QueueItem, QueuePosition, StreamQueue
from traces.simulator.schedule import POLLS_BEFORE_PROGRESS
from traces.simulator.timelines import TimelineRegistry
from traces.simulator.vector_clocks import VectorClock


class MarkedEvent(Protocol):
    """An event with the mark of its latest recording; None before the first."""

    name: str
    mark: EventMark | None


class StreamOrder:
    """The happens-before edges of one simulated device.

    Args:
        calls: serialises the calls of host threads.
        execution: queued work.
        timelines: clocks of streams and host threads.
    """

    def __init__(
        self, *, calls: DeviceCallLock, execution: QueueExecutor, timelines: TimelineRegistry
    ) -> None:
        self._calls = calls
        self._execution = execution
        self._timelines = timelines

    def enqueue_mark(self, queue: StreamQueue, event: MarkedEvent) -> None:
        """Let ``event`` mark the work of a stream so far."""
        with self._calls:
            # A second recording replaces the mark; waits enqueued before keep the first one.
            event.mark = EventMark(
                queue=queue, clock=self.advance(queue), is_done=False, query_num=0
            )
            self._push(queue, event.mark)

    def enqueue_wait(self, queue: StreamQueue, event: MarkedEvent) -> None:
        """Order later work of a stream after what ``event`` marks now, if anything."""
        with self._calls:
            mark = event.mark
            # As with cudaStreamWaitEvent, waiting for an event that was never recorded orders
            # nothing, and a later recording does not count.
            if mark is not None:
                self.advance(queue)
                queue.timeline.merge_clock(mark.clock)
                self._push(queue, EventWait(mark=mark))

    def query_event(self, event: MarkedEvent) -> bool:
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

    def synchronize_event(self, event: MarkedEvent) -> None:
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
