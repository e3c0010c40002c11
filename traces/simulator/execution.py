"""Execution of queued work, one item at a time, in the order that the schedule chooses."""

import itertools
import weakref
from collections.abc import Callable

from assembler.errors import DeadlockError
from traces.simulator.queues import EventMark, EventWait, QueuedOperation, StreamQueue
from traces.simulator.schedule import Schedule
from traces.simulator.vector_clocks import Timeline


class QueueExecutor:
    """The queues of a device and the execution of their items.

    Args:
        schedule: chooses the next queue.
        check: called with each operation just before it runs.
    """

    def __init__(self, *, schedule: Schedule, check: Callable[[QueuedOperation], None]) -> None:
        self._schedule = schedule
        self._check = check
        self._ordinals = itertools.count()
        self._queues: list[StreamQueue] = []
        self._owners: dict[int, weakref.ref[object]] = {}

    def open_queue(self, timeline: Timeline) -> StreamQueue:
        """Return a new queue with the next ordinal; drop queues without owner and work."""
        queue = StreamQueue(ordinal=next(self._ordinals), timeline=timeline)
        self._queues = [queue for queue in self._queues if self._is_in_use(queue)]
        self._queues.append(queue)
        return queue

    def set_owner(self, queue: StreamQueue, owner: object) -> None:
        """Keep ``queue`` for as long as ``owner`` lives or the queue holds work."""
        self._owners[queue.ordinal] = weakref.ref(owner)

    def queues(self) -> list[StreamQueue]:
        """Return all queues by ordinal."""
        return list(self._queues)

    def offer(self) -> None:
        """Run as many items as the schedule chooses to, perhaps none."""
        while ready := self._ready():
            chosen = self._schedule.offer(list(ready))
            if chosen is None:
                return
            self._do_next(ready[chosen])

    def blocked_until(self, is_over: Callable[[], bool], *, queue: StreamQueue | None) -> None:
        """Run items until ``is_over``.

        Args:
            is_over: returns true when the wait is over.
            queue: the queue waited for; None when that is unknown.

        Raises:
            DeadlockError: no item can run any more.
        """
        while not is_over():
            if not self.force(queue):
                raise DeadlockError(
                    "host",
                    "awaited work must be able to finish",
                    expected="a stream that can continue",
                    got="none",
                )

    def force(self, queue: StreamQueue | None) -> bool:
        """Run one item; return whether any could run.

        Args:
            queue: the queue waited for; None when that is unknown.
        """
        ready = self._ready()
        if not ready:
            return False
        needed = None if queue is None else queue.needed()
        ordinal = None if needed is None else needed.ordinal
        self._do_next(ready[self._schedule.force(list(ready), needed=ordinal)])
        return True

    def _ready(self) -> dict[int, StreamQueue]:
        return {queue.ordinal: queue for queue in self._queues if queue.is_ready}

    def _do_next(self, queue: StreamQueue) -> None:
        item = queue.pop()
        match item:
            case EventMark():
                item.is_done = True
            case QueuedOperation():
                # The bytes move even if the race is raised, as they would on a GPU.
                try:
                    self._check(item)
                finally:
                    item.run()
            case EventWait():
                # Its edge was merged into the stream's clock when it was enqueued.
                pass

    def _is_in_use(self, queue: StreamQueue) -> bool:
        owner = self._owners[queue.ordinal]
        # A stream may be destroyed with work pending, as in CUDA: the work still runs.
        if owner() is not None or not queue.is_empty:
            return True
        del self._owners[queue.ordinal]
        return False
