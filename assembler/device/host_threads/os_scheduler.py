"""The scheduler of eager and CUDA devices: threads run concurrently."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from typing_extensions import override

from assembler.device.host_threads.thread_scheduler import (
    GroupMember,
    ThreadCancelled,
    ThreadScheduler,
    ThreadWait,
)


class OsThreadScheduler(ThreadScheduler):
    """Concurrent threads; one lock guards queues, flags and joins.

    A thread is cancelled when it next uses a queue, a flag or a thread; calls of the device do not
    check for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._condition = threading.Condition()

    @override
    def begin(self, work: Callable[[], None], *, name: str) -> GroupMember:
        member = self.add(name=name)
        threading.Thread(target=self._run, args=(member, work), name=name, daemon=True).start()
        return member

    @override
    def close(self) -> None:
        with self._condition:
            self.is_ending = True
            self.notify()
            self._condition.wait_for(lambda: self.is_over)
            self.is_open = False

    @override
    @contextmanager
    def exclusive(self) -> Iterator[None]:
        member = self.calling_thread()
        with self._condition:
            self._end_if_ending(member)
            yield

    @override
    def wait(self, is_over: Callable[[], bool], *, what: str) -> None:
        member = self.calling_thread()
        member.waiting = ThreadWait(is_over=is_over, what=what)
        # Wakes the opener, which checks for a deadlock each time that a thread begins to wait.
        self.notify()
        try:
            self._condition.wait_for(
                lambda: is_over() or self.is_ending or (member is self.opener and self._is_stuck())
            )
            self._end_if_ending(member)
            if not is_over():
                raise self.deadlock()
        finally:
            member.waiting = None

    @override
    def notify(self) -> None:
        self._condition.notify_all()

    @override
    def poll(self) -> None:
        return

    @override
    def clock(self) -> dict[int, int]:
        return {}

    @override
    def merge_clock(self, clock: dict[int, int]) -> None:
        del clock

    def _run(self, member: GroupMember, work: Callable[[], None]) -> None:
        self.run_as_member(member, work)
        with self._condition:
            member.is_finished = True
            self.notify()

    def _end_if_ending(self, member: GroupMember) -> None:
        if self.is_ending and member is not self.opener:
            raise ThreadCancelled

    def _is_stuck(self) -> bool:
        return not any(member.is_runnable for member in self.members)
