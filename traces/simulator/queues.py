"""Queues of the work that streams have still to run."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from assembler.device.access import MemoryAccess
from traces.simulator.races import Accessor
from traces.simulator.vector_clocks import Timeline, VectorClock


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QueuedOperation:
    """Work that was launched.

    Attributes:
        run: moves the bytes.
        accessor: identity of the operation, for the race detector.
        clock: steps that happened before it, its own included.
        reads: memory it reads.
        writes: memory it writes.
    """

    run: Callable[[], object]
    accessor: Accessor
    clock: VectorClock
    reads: tuple[MemoryAccess, ...]
    writes: tuple[MemoryAccess, ...]


@dataclass(slots=True, kw_only=True, eq=False)
class EventMark:
    """One recording of an event.

    Attributes:
        queue: of the stream it was recorded on.
        clock: steps that happened before it.
        is_done: whether the work before it is done.
        query_num: queries so far that found the work unfinished.
    """

    queue: "StreamQueue"
    clock: VectorClock
    is_done: bool
    query_num: int


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
    def is_empty(self) -> bool:
        """Whether everything launched so far is done."""
        return not self.items

    @property
    def is_ready(self) -> bool:
        """Whether the oldest item can run now."""
        if not self.items:
            return False
        head = self.items[0]
        return not isinstance(head, EventWait) or head.mark.is_done

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
    """The end of the work that was launched on a stream up to some point.

    Attributes:
        queue: of the stream.
        clock: steps that have happened by then.
        item_num: items up to that point.
    """

    queue: StreamQueue
    clock: VectorClock
    item_num: int

    @property
    def is_reached(self) -> bool:
        """Whether all that work is done."""
        return self.queue.done_num >= self.item_num
