"""Queues of the work that streams have still to run, and its execution, one item at a time."""

import itertools
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from assembler.device.access import Accesses
from assembler.errors import DeadlockError
from traces.simulator.races import Accessor
from traces.simulator.schedule import Schedule
from traces.simulator.vector_clocks import Timeline, VectorClock


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QueuedOperation:
    """Work that was launched, or an access of the host, which is never queued.

    Attributes:
        run: moves the bytes.
        accessor: identity of the operation, for the race detector.
        clock: steps that happened before it, its own included.
    """

    run: Callable[[], object]
    accessor: Accessor
    clock: VectorClock
    reads: Accesses
    writes: Accesses


@dataclass(slots=True, kw_only=True, eq=False)
class EventMark:
    """One recording of an event.

    Attributes:
        queue: of the stream it was recorded on.
        clock: steps that happened before it.
        query_num: queries so far that found the work unfinished.
    """

    queue: "StreamQueue"
    clock: VectorClock
    is_done: bool = False
    query_num: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EventWait:
    """A stream's wait for a mark."""

    mark: EventMark


QueueItem: TypeAlias = QueuedOperation | EventMark | EventWait


class StreamQueue:
    """The work of one stream that has not run yet.

    Attributes:
        ordinal: number of the stream on its device.
        timeline: clock of the stream.
        items: oldest first.
        pushed_num: items pushed so far.
        done_num: items that have run.
    """

    def __init__(self, *, ordinal: int, timeline: Timeline) -> None:
        self.ordinal = ordinal
        self.timeline = timeline
        self.items: deque[QueueItem] = deque()
        self.pushed_num = 0
        self.done_num = 0

    def push(self, item: QueueItem) -> None:
        """Add work."""
        self.items.append(item)
        self.pushed_num += 1

    def pop(self) -> QueueItem:
        """Take the oldest item, which runs now."""
        self.done_num += 1
        return self.items.popleft()

    def end(self) -> "QueuePosition":
        """Return the end of the work so far."""
        return QueuePosition(queue=self, clock=dict(self.timeline.clock), item_num=self.pushed_num)

    @property
    def is_ready(self) -> bool:
        """True if the oldest item can run now."""
        head = self.items[0] if self.items else None
        return head is not None and (not isinstance(head, EventWait) or head.mark.is_done)

    def needed(self) -> "StreamQueue | None":
        """Return the queue that must run next for this one to make progress; None without one."""
        queue = self
        while queue.items and not queue.is_ready:
            head = queue.items[0]
            assert isinstance(head, EventWait), "only a wait is not ready"
            queue = head.mark.queue
        return queue if queue.items else None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePosition:
    """The end of the work that was launched on a stream up to some point, the clock by then."""

    queue: StreamQueue
    clock: VectorClock
    item_num: int

    @property
    def is_reached(self) -> bool:
        """True if all that work is done."""
        return self.queue.done_num >= self.item_num


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
        """Run items until ``is_over``; ``queue`` is the one waited for, None when it is unknown.

        Raises:
            DeadlockError: no item can run any more.
        """
        while not is_over():
            if not self.force(queue):
                rule, expected = "awaited work must be able to finish", "a stream that can continue"
                raise DeadlockError("host", rule, expected=expected, got="none")

    def force(self, queue: StreamQueue | None) -> bool:
        """Run one item for the queue waited for, if known; return whether any could run."""
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
        if owner() is not None or queue.items:
            return True
        del self._owners[queue.ordinal]
        return False
