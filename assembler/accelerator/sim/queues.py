"""What streams have still to do."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from assembler.accelerator.access import Access
from assembler.accelerator.sim.clocks import Clock, Party
from assembler.accelerator.sim.races import Actor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operation:
    """Work that was launched.

    Attributes:
        run: moves the bytes.
        actor: who, for the race detector.
        clock: what happened before it.
        reads: what it reads.
        writes: what it writes.
    """

    run: Callable[[], object]
    actor: Actor
    clock: Clock
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]


@dataclass(slots=True, kw_only=True, eq=False)
class Mark:
    """One recording of an event.

    Attributes:
        queue: where it was recorded.
        clock: what happened before it.
        is_done: whether the work before it is done.
        asked: how often the host asked and heard no.
    """

    queue: "StreamQueue"
    clock: Clock
    is_done: bool
    asked: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wait:
    """A stream's wait for a mark."""

    mark: Mark


Item: TypeAlias = Operation | Mark | Wait


class StreamQueue:
    """The work of one stream that has not happened yet.

    Attributes:
        ordinal: number of the stream on its device.
        party: the stream as a party with a clock.
        items: oldest first.
        pushed_num: items so far.
        done_num: items that happened.
    """

    def __init__(self, *, ordinal: int, party: Party) -> None:
        self.ordinal = ordinal
        self.party = party
        self.items: deque[Item] = deque()
        self.pushed_num = 0
        self.done_num = 0

    def push(self, item: Item) -> None:
        """Add work."""
        self.items.append(item)
        self.pushed_num += 1

    def pop(self) -> Item:
        """Take the oldest item, which happens now."""
        self.done_num += 1
        return self.items.popleft()

    def end(self) -> "End":
        """Return the end of the work so far."""
        return End(queue=self, clock=dict(self.party.clock), item_num=self.pushed_num)

    @property
    def is_empty(self) -> bool:
        """Whether everything launched so far is done."""
        return not self.items

    @property
    def is_ready(self) -> bool:
        """Whether the oldest item can happen now."""
        if not self.items:
            return False
        head = self.items[0]
        return not isinstance(head, Wait) or head.mark.is_done

    def needed(self) -> "StreamQueue | None":
        """Return the queue that has to go on for this one to go on; None when there is none."""
        queue = self
        while queue.items and not queue.is_ready:
            head = queue.items[0]
            assert isinstance(head, Wait), "only a wait is not ready"
            queue = head.mark.queue
        return queue if queue.items else None


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The end of the work that was launched on a stream up to some point.

    Attributes:
        queue: of the stream.
        clock: what has happened then.
        item_num: items up to there.
    """

    queue: StreamQueue
    clock: Clock
    item_num: int

    @property
    def is_reached(self) -> bool:
        """Whether all that work is done."""
        return self.queue.done_num >= self.item_num
