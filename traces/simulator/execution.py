"""Makes queued work happen, one item at a time, in the order that the schedule chooses."""

import itertools
import weakref
from collections.abc import Callable

from assembler.errors import DeadlockError
from traces.simulator.queues import EventMark, EventWait, QueuedOperation, StreamQueue
from traces.simulator.schedule import Schedule
from traces.simulator.vector_clocks import Timeline


class QueueExecutor:
    """The queues of a device and what happens in them.

    Args:
        schedule: chooses.
        check: is shown each operation just before it happens.
    """

    def __init__(self, *, schedule: Schedule, check: Callable[[QueuedOperation], None]) -> None:
        self._schedule = schedule
        self._check = check
        self._ordinals = itertools.count()
        self._queues: list[StreamQueue] = []
        self._owners: dict[int, weakref.ref[object]] = {}

    def open_queue(self, timeline: Timeline) -> StreamQueue:
        """Return a new queue with the next ordinal; drop those that nobody can use again."""
        queue = StreamQueue(ordinal=next(self._ordinals), timeline=timeline)
        self._queues = [queue for queue in self._queues if self._is_in_use(queue)]
        self._queues.append(queue)
        return queue

    def set_owner(self, queue: StreamQueue, owner: object) -> None:
        """Keep ``queue`` for as long as ``owner`` lives, or has work in it."""
        self._owners[queue.ordinal] = weakref.ref(owner)

    def queues(self) -> list[StreamQueue]:
        """Return all queues by ordinal."""
        return list(self._queues)

    def offer(self) -> None:
        """Let the schedule make things happen, as it likes."""
        while ready := self._ready():
            chosen = self._schedule.offer(list(ready))
            if chosen is None:
                return
            self._do_next(ready[chosen])

    def blocked_until(self, is_over: Callable[[], bool], *, queue: StreamQueue | None) -> None:
        """Make things happen until ``is_over``.

        Args:
            is_over: says when to stop.
            queue: whose work is waited for; None when that is unknown.

        Raises:
            DeadlockError: nothing can happen any more.
        """
        while not is_over():
            if not self.force(queue):
                raise DeadlockError(
                    "host",
                    "what it waits for must be able to happen",
                    expected="a stream that can go on",
                    got="none",
                )

    def force(self, queue: StreamQueue | None) -> bool:
        """Make one thing happen; return whether anything could.

        Args:
            queue: whose work is waited for; None when that is unknown.
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
                try:
                    self._check(item)
                finally:
                    item.run()
            case EventWait():
                pass

    def _is_in_use(self, queue: StreamQueue) -> bool:
        owner = self._owners[queue.ordinal]
        if owner() is not None or not queue.is_empty:
            return True
        del self._owners[queue.ordinal]
        return False
