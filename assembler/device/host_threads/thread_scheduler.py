"""The base of the thread schedulers: members of a group, their waits and their errors."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from typing_extensions import override

from assembler.errors import DeadlockError, HostThreadError


class ThreadCancelled(BaseException):
    """Raised in a host thread whose group ends; not an ``Exception``, like ``GeneratorExit``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadWait:
    """The condition that a thread waits for, and its description in a deadlock error."""

    is_over: Callable[[], bool]
    what: str


@dataclass(slots=True, kw_only=True, eq=False)
class GroupMember:
    """A host thread of a group.

    Attributes:
        number: in the order of starting, from 0, the thread that opened the group.
        waiting: its condition; None while it is runnable.
        is_finished: whether its work is over, returned or raised.
        is_error_reported: whether a ``join`` raised the error.
        clock: vector clock at its end; empty on devices without race detection.
        wake_lock: held while another thread has the turn, where threads take turns.
    """

    number: int
    name: str
    waiting: ThreadWait | None = None
    is_finished: bool = False
    error: BaseException | None = None
    is_error_reported: bool = False
    clock: dict[int, int] = field(default_factory=dict)
    wake_lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_runnable(self) -> bool:
        """True when it waits for nothing."""
        return not self.is_finished and (self.waiting is None or self.waiting.is_over())

    @override
    def __str__(self) -> str:
        return self.name if self.number == 0 else f"thread {self.name}"


class _CallingThread(threading.local):
    """The calling thread as a member; None for a thread outside the group."""

    member: GroupMember | None = None


class ThreadScheduler(ABC):
    """The threads of one group.

    "Call it exclusively" means inside ``with scheduler.exclusive()``.

    Attributes:
        members: in the order of starting.
        is_open: whether threads can be started.
        is_ending: whether every thread but the first is being cancelled.
    """

    def __init__(self) -> None:
        self.members = [GroupMember(number=0, name="the host")]
        self.is_open = False
        self.is_ending = False
        self._local = _CallingThread()

    @property
    def opener(self) -> GroupMember:
        """The thread that opened the group."""
        return self.members[0]

    @property
    def is_over(self) -> bool:
        """True when only the opener is left."""
        return all(member.is_finished for member in self.members[1:])

    def calling_thread(self) -> GroupMember:
        """Return the calling thread.

        Raises:
            HostThreadError: it is not a member of the group.
        """
        member = self._local.member
        if member is None:
            rule, expected = "must belong to the open block", ", ".join(map(str, self.members))
            got = threading.current_thread().name
            raise HostThreadError("host thread", rule, expected=expected, got=got)
        return member

    def open(self) -> None:
        """Make the calling thread the first one.

        Raises:
            HostThreadError: it was opened before, or another group is open.
        """
        if self.is_open or self.is_ending:
            rule = "block opens once"
            raise HostThreadError("host threads", rule, expected="a new block", got="a used one")
        self.is_open = True
        self._local.member = self.opener

    @abstractmethod
    def begin(self, work: Callable[[], None], *, name: str) -> GroupMember:
        """Start a thread, ordered after what the calling thread did; call it exclusively."""

    @abstractmethod
    def close(self) -> None:
        """Cancel every thread but the calling one, which opened the group. Order: after them."""

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[object]:
        """Exclude other threads, except while this one waits; another may go first."""

    @abstractmethod
    def wait(self, is_over: Callable[[], bool], *, what: str) -> None:
        """Let other threads run until ``is_over``; call it exclusively.

        Raises:
            DeadlockError: no thread is runnable, and this thread opened the group.
            ThreadCancelled: the group ends, and another thread opened it.
        """

    @abstractmethod
    def notify(self) -> None:
        """Wake waiting threads to check their conditions again; call it exclusively."""

    @abstractmethod
    def poll(self) -> None:
        """Let other threads run after a query without result; call it exclusively."""

    @abstractmethod
    def clock(self) -> dict[int, int]:
        """Return the calling thread's vector clock; call it exclusively."""

    @abstractmethod
    def merge_clock(self, clock: dict[int, int]) -> None:
        """Order the calling thread after a vector clock; call it exclusively."""

    def add(self, *, name: str) -> GroupMember:
        """Return a new member.

        Raises:
            HostThreadError: the name is taken, or the group is not open.
        """
        if not self.is_open:
            rule = "must start in its block"
            raise HostThreadError("host thread", rule, expected="an open block", got=name)
        taken = [member.name for member in self.members]
        if name in taken:
            rule, expected = "must have a name of its own", f"none of {', '.join(taken)}"
            raise HostThreadError("host thread", rule, expected=expected, got=name)
        member = GroupMember(number=len(self.members), name=name)
        self.members.append(member)
        return member

    def run_as_member(self, member: GroupMember, work: Callable[[], None]) -> None:
        """Run a thread's work as that member and keep its error."""
        self._local.member = member
        try:
            work()
        except ThreadCancelled:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by join
            member.error = error

    def first_unreported_error(self) -> BaseException | None:
        """Return the first error that no ``join`` raised."""
        errors = [member.error for member in self.members if not member.is_error_reported]
        return next((error for error in errors if error is not None), None)

    def deadlock(self) -> DeadlockError:
        """Return the error that names every thread and its condition."""
        waiting = [
            f"{member} waits for {member.waiting.what}"
            for member in self.members
            if not member.is_finished and member.waiting is not None
        ]
        rule, expected = "a thread must be runnable", "a runnable thread or stream"
        error = DeadlockError("host threads", rule, expected=expected, got=", ".join(waiting))
        # A thread that failed is the likely reason.
        error.__cause__ = self.first_unreported_error()
        return error
