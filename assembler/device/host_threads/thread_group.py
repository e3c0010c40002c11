"""Threads, queues and flags of a group, the same on every device."""

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from assembler.device.host_threads.thread_scheduler import GroupMember, ThreadScheduler

T = TypeVar("T")


class HostThread:
    """A started thread; its name appears in errors."""

    def __init__(self, *, member: GroupMember, scheduler: ThreadScheduler) -> None:
        self.name = member.name
        self._member = member
        self._scheduler = scheduler

    @property
    def is_finished(self) -> bool:
        """True when its work is over; orders nothing."""
        return self._member.is_finished

    def join(self) -> None:
        """Wait for its end and raise what it raised. Order: after everything it did.

        Raises:
            DeadlockError: no thread of the group is runnable.
        """
        member = self._member
        with self._scheduler.exclusive():
            self._scheduler.wait(lambda: member.is_finished, what=f"the end of {member}")
            self._scheduler.merge_clock(member.clock)
            member.is_error_reported = True
        if member.error is not None:
            raise member.error


class ThreadQueue(Generic[T]):
    """An unbounded queue between threads of one group; its name appears in errors."""

    def __init__(self, *, name: str, scheduler: ThreadScheduler) -> None:
        self.name = name
        self._scheduler = scheduler
        self._items: deque[tuple[T, dict[int, int]]] = deque()
        self._closing: dict[int, int] | None = None

    def put(self, item: T) -> None:
        """Add an item. Order: ``get`` of it comes after what this thread did so far.

        Raises:
            ValueError: the queue is closed.
        """
        with self._scheduler.exclusive():
            if self._closing is not None:
                raise ValueError(f"queue {self.name}: must be open; expected no put, got {item}")
            self._items.append((item, self._scheduler.clock()))
            self._scheduler.notify()

    def get(self) -> T | None:
        """Wait for an item; None when the queue is closed and empty.

        Raises:
            DeadlockError: no thread of the group is runnable.
        """
        with self._scheduler.exclusive():
            self._scheduler.wait(
                lambda: bool(self._items) or self._closing is not None,
                what=f"an item in queue {self.name}",
            )
            return self._taken()

    def poll(self) -> T | None:
        """Return an item, or None when there is none now."""
        with self._scheduler.exclusive():
            if not self._items and self._closing is None:
                self._scheduler.poll()
                return None
            return self._taken()

    def close(self) -> None:
        """Refuse further items. Order: a ``get`` of None comes after this thread so far."""
        with self._scheduler.exclusive():
            if self._closing is None:
                self._closing = self._scheduler.clock()
            self._scheduler.notify()

    def _taken(self) -> T | None:
        if self._items:
            item, clock = self._items.popleft()
            self._scheduler.merge_clock(clock)
            return item
        assert self._closing is not None, "an open queue has an item here"
        self._scheduler.merge_clock(self._closing)
        return None


class ThreadFlag:
    """A one-way event between threads of one group; its name appears in errors."""

    def __init__(self, *, name: str, scheduler: ThreadScheduler) -> None:
        self.name = name
        self._scheduler = scheduler
        self._raised: dict[int, int] | None = None

    def set(self) -> None:
        """Set the flag; again does nothing. Order: before every ``wait`` that returns."""
        with self._scheduler.exclusive():
            if self._raised is None:
                self._raised = self._scheduler.clock()
            self._scheduler.notify()

    def is_set(self) -> bool:
        """Return whether the flag is set. Order: after ``set`` when it is."""
        with self._scheduler.exclusive():
            if self._raised is None:
                self._scheduler.poll()
                return False
            self._scheduler.merge_clock(self._raised)
            return True

    def wait(self) -> None:
        """Wait until the flag is set. Order: after ``set``.

        Raises:
            DeadlockError: no thread of the group is runnable.
        """
        with self._scheduler.exclusive():
            self._scheduler.wait(lambda: self._raised is not None, what=f"flag {self.name}")
            assert self._raised is not None, "waited for"
            self._scheduler.merge_clock(self._raised)


class ThreadGroup:
    """A group of host threads, ``with device.threads() as threads:``.

    Leaving the block waits for every thread and raises the first error, in the order of starting,
    that no ``join`` raised. When the block raises, or a thread failed, the threads that still run
    are cancelled: they end at their next call with ``ThreadCancelled``, which ``except Exception``
    does not catch, and their ``finally`` clauses run.

    A thread starts on the default stream, whichever its starter had switched to. Locks of other
    kinds must not be held across calls of the device.
    """

    def __init__(self, *, scheduler: ThreadScheduler) -> None:
        self._scheduler = scheduler

    def start(self, work: Callable[[], None], *, name: str) -> HostThread:
        """Run ``work`` in a thread of its own. Order: after what this thread did so far.

        Raises:
            HostThreadError: another thread of the group has that name.
        """
        with self._scheduler.exclusive():
            member = self._scheduler.begin(work, name=name)
            return HostThread(member=member, scheduler=self._scheduler)

    def queue(self, *, name: str) -> ThreadQueue[T]:
        """Return a new queue."""
        return ThreadQueue(name=name, scheduler=self._scheduler)

    def flag(self, *, name: str) -> ThreadFlag:
        """Return a new flag."""
        return ThreadFlag(name=name, scheduler=self._scheduler)

    def __enter__(self) -> Self:
        self._scheduler.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._wait_for_all()
        finally:
            self._scheduler.close()
            failure = self._scheduler.first_unreported_error()
            if error is not None and failure not in (None, error.__cause__):
                error.add_note(f"a host thread raised {failure!r}")

    def _wait_for_all(self) -> None:
        scheduler = self._scheduler
        with scheduler.exclusive():
            scheduler.wait(
                lambda: scheduler.first_unreported_error() is not None or scheduler.is_over,
                what="the end of every thread",
            )
            failure = scheduler.first_unreported_error()
            if failure is not None:
                raise failure
            for other in scheduler.members[1:]:
                scheduler.merge_clock(other.clock)
