"""Host threads as the operating system runs them, for devices that do not care."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from typing_extensions import override

from assembler.accelerator.turns import Member, ThreadUnwound, Turns, Waiting


class PlainTurns(Turns):
    """Threads that run at once; one lock guards what they hand to each other.

    A thread is unwound when it next uses a queue, a flag or a thread: calls of the device do not
    know about the block.
    """

    def __init__(self) -> None:
        super().__init__()
        self._condition = threading.Condition()

    @override
    def begin(self, work: Callable[[], None], *, name: str) -> Member:
        member = self.add(name=name)
        threading.Thread(target=self._run, args=(member, work), name=name, daemon=True).start()
        return member

    @override
    def close(self) -> None:
        with self._condition:
            self.is_ending = True
            self.changed()
            self._condition.wait_for(lambda: self.is_over)
            self.is_open = False

    @override
    @contextmanager
    def exclusive(self) -> Iterator[None]:
        member = self.me()
        with self._condition:
            self._end_if_ending(member)
            yield

    @override
    def wait(self, is_over: Callable[[], bool], *, what: str) -> None:
        member = self.me()
        member.waiting = Waiting(is_over=is_over, what=what)
        # The opener looks whether anybody is left who can go on.
        self.changed()
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
    def changed(self) -> None:
        self._condition.notify_all()

    @override
    def poll(self) -> None:
        return

    @override
    def clock(self) -> dict[int, int]:
        return {}

    @override
    def follow(self, clock: dict[int, int]) -> None:
        del clock

    def _run(self, member: Member, work: Callable[[], None]) -> None:
        self.carry_out(member, work)
        with self._condition:
            member.is_finished = True
            self.changed()

    def _end_if_ending(self, member: Member) -> None:
        if self.is_ending and member is not self.opener:
            raise ThreadUnwound

    def _is_stuck(self) -> bool:
        return not any(member.can_go_on for member in self.members)
