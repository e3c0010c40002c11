"""Who may go on: what host threads wait for, and the rules that every kind of thread keeps."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from typing_extensions import override

from assembler.errors import DeadlockError, HostThreadError


class ThreadCancelled(BaseException):
    """Raised in a host thread that ends because its block ends; no error, like GeneratorExit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadWait:
    """What a thread waits for.

    Attributes:
        is_over: says whether it may go on.
        what: in words.
    """

    is_over: Callable[[], bool]
    what: str


@dataclass(slots=True, kw_only=True, eq=False)
class GroupMember:
    """A host thread of a block.

    Attributes:
        number: from 0, which is the thread that opened the block, in the order of starting.
        name: for people.
        waiting: what it waits for; None while it can go on.
        is_finished: whether its work is over, in whichever way.
        error: what its work raised.
        is_told: whether somebody who joined it knows the error.
        clock: what had happened when it finished; empty where nobody looks for races.
        gate: locked while it is not this thread's turn, where threads take turns.
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
        """Whether there is nothing that it waits for."""
        return not self.is_finished and (self.waiting is None or self.waiting.is_over())

    @override
    def __str__(self) -> str:
        return self.name if self.number == 0 else f"thread {self.name}"


class _CallingThread(threading.local):
    """The calling thread as a member; None for a stranger."""

    member: GroupMember | None = None


class ThreadScheduler(ABC):
    """The threads of one block.

    Attributes:
        members: in the order of starting.
        is_open: whether threads can be started.
        is_ending: whether every thread but the first is to be unwound.
    """

    def __init__(self) -> None:
        self.members = [GroupMember(number=0, name="the host")]
        self.is_open = False
        self.is_ending = False
        self._local = _CallingThread()

    @property
    def opener(self) -> GroupMember:
        """The thread that opened the block."""
        return self.members[0]

    @property
    def is_over(self) -> bool:
        """Whether only the opener is left."""
        return all(member.is_finished for member in self.members[1:])

    def calling_thread(self) -> GroupMember:
        """Return the calling thread.

        Raises:
            HostThreadError: it is none of the block's.
        """
        member = self._local.member
        if member is None:
            raise HostThreadError(
                "host thread",
                "must belong to the open block",
                expected=", ".join(map(str, self.members)),
                got=threading.current_thread().name,
            )
        return member

    def open(self) -> None:
        """Make the calling thread the first one.

        Raises:
            HostThreadError: it was open before, or another block is.
        """
        if self.is_open or self.is_ending:
            raise HostThreadError(
                "host threads", "block opens once", expected="a new block", got="a used one"
            )
        self.is_open = True
        self._local.member = self.opener

    @abstractmethod
    def begin(self, work: Callable[[], None], *, name: str) -> GroupMember:
        """Start a thread, ordered after what the calling thread did; call it exclusively."""

    @abstractmethod
    def close(self) -> None:
        """Unwind every thread but the calling one, which opened the block."""

    @abstractmethod
    def exclusive(self) -> AbstractContextManager[object]:
        """Let no other thread in, but while this one waits; another may go first."""

    @abstractmethod
    def wait(self, is_over: Callable[[], bool], *, what: str) -> None:
        """Let others go on until ``is_over``; call it exclusively.

        Raises:
            DeadlockError: nobody can go on, and this thread opened the block.
            ThreadUnwound: the block ends, and another thread opened it.
        """

    @abstractmethod
    def notify(self) -> None:
        """Say that somebody may be able to go on who was not; call it exclusively."""

    @abstractmethod
    def poll(self) -> None:
        """Say that the calling thread asked in vain: others should go on; call it exclusively."""

    @abstractmethod
    def clock(self) -> dict[int, int]:
        """Return what happened before the calling thread's next step; call it exclusively."""

    @abstractmethod
    def merge_clock(self, clock: dict[int, int]) -> None:
        """Order the calling thread after what a clock knows; call it exclusively."""

    def add(self, *, name: str) -> GroupMember:
        """Return a new member.

        Raises:
            HostThreadError: the name is taken, or the block is not open.
        """
        if not self.is_open:
            raise HostThreadError(
                "host thread", "must start in its block", expected="an open block", got=name
            )
        taken = [member.name for member in self.members]
        if name in taken:
            raise HostThreadError(
                "host thread",
                "must have a name of its own",
                expected=f"none of {', '.join(taken)}",
                got=name,
            )
        member = GroupMember(number=len(self.members), name=name)
        self.members.append(member)
        return member

    def run_as_member(self, member: GroupMember, work: Callable[[], None]) -> None:
        """Do a thread's work as that member and keep what it raises."""
        self._local.member = member
        try:
            work()
        except ThreadCancelled:
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised again by whoever joins
            member.error = error

    def first_unreported_error(self) -> BaseException | None:
        """Return the first error of a thread that nobody knows yet."""
        errors = [member.error for member in self.members if not member.is_error_reported]
        return next((error for error in errors if error is not None), None)

    def deadlock(self) -> DeadlockError:
        """Return the error that names every thread and what it waits for."""
        waiting = [
            f"{member} waits for {member.waiting.what}"
            for member in self.members
            if not member.is_finished and member.waiting is not None
        ]
        error = DeadlockError(
            "host threads",
            "somebody must be able to go on",
            expected="a thread or a stream that can",
            got=", ".join(waiting),
        )
        # A thread that failed is the likely reason.
        error.__cause__ = self.first_unreported_error()
        return error
