"""Host threads that take turns: one holds the baton, the schedule says who gets it next."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from typing_extensions import override

from assembler.accelerator.sim.calls import PATIENCE, HostCalls
from assembler.accelerator.sim.clocks import Clock
from assembler.accelerator.sim.execution import Execution
from assembler.accelerator.sim.parties import Parties
from assembler.accelerator.sim.queues import StreamQueue
from assembler.accelerator.sim.schedule import Schedule
from assembler.accelerator.turns import Member, ThreadUnwound, Turns, Waiting
from assembler.errors import DeadlockError, HiCacheError, HostThreadError

# Questions in a row, nothing else happening in between, after which none will be answered.
_HOPELESS = 1000


class SimTurns(Turns):
    """Real threads of which only the holder of the baton runs.

    The baton changes hands at calls of the device and of what threads hand to each other: before
    each of them, and where they wait. Host code between two calls is never interrupted.

    Args:
        calls: of the device.
        execution: its queued work.
        parties: its clocks.
        schedule: decides.
    """

    def __init__(
        self, *, calls: HostCalls, execution: Execution, parties: Parties, schedule: Schedule
    ) -> None:
        super().__init__()
        self._calls = calls
        self._execution = execution
        self._parties = parties
        self._schedule = schedule
        self._holder = self.opener
        self._depth: dict[Member, int] = {self.opener: 0}
        self._needs: dict[Member, StreamQueue] = {}
        self._asking: set[Member] = set()
        self._asked_in_vain = 0

    @override
    def open(self) -> None:
        with self._calls:
            if self._calls.turns is not None:
                raise HostThreadError(
                    "host threads", "must be in one block", expected="none open", got="a second one"
                )
            super().open()
            self.opener.gate.acquire()
        self._calls.turns = self

    @override
    def begin(self, work: Callable[[], None], *, name: str) -> Member:
        member = self.add(name=name)
        member.gate.acquire()
        self._depth[member] = 0
        party = self._parties.new_host(str(member))
        party.follow(self.clock())

        def run() -> None:
            self._await_turn(member)
            self._parties.become(party)
            if not self.is_ending:
                self.carry_out(member, work)
            member.clock = self.clock()
            member.is_finished = True
            self._asked_in_vain = 0
            self._hand_to(self._successor_of_finished(member))

        threading.Thread(target=run, name=name, daemon=True).start()
        return member

    @override
    def close(self) -> None:
        self.is_ending = True
        opener = self.opener
        self._await_turn(opener)
        for member in self.members[1:]:
            if not member.is_finished:
                self._pass_on(opener, member)
        self.is_open = False
        self._calls.turns = None

    @override
    def exclusive(self) -> AbstractContextManager[object]:
        return self._calls

    def enter(self) -> None:
        """Begin a call of the calling thread; others may go first."""
        me = self.me()
        self._end_if_ending(me)
        self._await_turn(me)
        if self._depth[me] == 0:
            able = self._able()
            self._pass_on(me, self._drawn(able, me) if len(able) > 1 else me)
        self._depth[me] += 1

    def leave(self) -> None:
        """End a call of the calling thread."""
        me = self.me()
        self._depth[me] -= 1
        if self._depth[me] == 0:
            if me not in self._asking:
                self._asked_in_vain = 0
            self._asking.discard(me)

    @override
    def wait(self, is_over: Callable[[], bool], *, what: str) -> None:
        self.wait_for_device(is_over, queue=None, what=what)

    def wait_for_device(
        self, is_over: Callable[[], bool], *, queue: StreamQueue | None, what: str
    ) -> None:
        """As :meth:`wait`; ``queue`` is the one whose work is waited for, if that is known."""
        me = self.me()
        me.waiting = Waiting(is_over=is_over, what=what)
        if queue is not None:
            self._needs[me] = queue
        try:
            self._end_if_ending(me)
            while not is_over():
                self._pass_on(me, self._successor_of_blocked(me))
        finally:
            me.waiting = None
            self._needs.pop(me, None)

    @override
    def changed(self) -> None:
        self._asked_in_vain = 0

    @override
    def poll(self) -> None:
        me = self.me()
        self._asking.add(me)
        self._asked_in_vain += 1
        if self._asked_in_vain > _HOPELESS:
            raise DeadlockError(
                "host threads",
                "what they ask for must be able to happen",
                expected=f"something in {_HOPELESS} questions",
                got=", ".join(
                    f"{member} asks" for member in self.members if member in self._asking
                ),
            )
        if self._asked_in_vain % (PATIENCE * len(self.members)) == 0:
            self._execution.force(self._needed(me))
        others = [member for member in self._able() if member is not me]
        quiet = [member for member in others if member not in self._asking]
        if others:
            self._pass_on(me, self._drawn(quiet or others, me))

    @override
    def clock(self) -> Clock:
        party = self._parties.host()
        party.step()
        return dict(party.clock)

    @override
    def follow(self, clock: dict[int, int]) -> None:
        self._parties.host().follow(clock)

    def _able(self) -> list[Member]:
        return [member for member in self.members if member.can_go_on]

    def _drawn(self, able: list[Member], last: Member) -> Member:
        numbers = [member.number for member in able]
        return self.members[self._schedule.turn(numbers, current=last.number)]

    def _pass_on(self, me: Member, successor: Member) -> None:
        """Give the baton to another thread and wait until it comes back."""
        if successor is not me:
            self._hand_to(successor)
            self._await_turn(me)
        self._end_if_ending(me)

    def _hand_to(self, member: Member) -> None:
        self._holder = member
        self._wake(member)

    def _await_turn(self, me: Member) -> None:
        """Sleep until the calling thread holds the baton.

        The exception of a signal may have ended an earlier sleep, or come before the holder was
        woken: so a sleeper may be woken for nothing, and looks again.
        """
        while self._holder is not me:
            self._wake(self._holder)
            me.gate.acquire()

    @staticmethod
    def _wake(member: Member) -> None:
        # It raises when the gate is open already.
        with suppress(RuntimeError):
            member.gate.release()

    def _end_if_ending(self, me: Member) -> None:
        if self.is_ending and me is not self.opener:
            raise ThreadUnwound

    def _successor_of_blocked(self, me: Member) -> Member:
        """Return who goes next, the thread itself once something happened on the device."""
        if self._able():
            self._execution.offer()
            return self._drawn(self._able(), me)
        if self._execution.force(self._needed(me)):
            return me
        if me is not self.opener:
            return self.opener
        raise self.deadlock()

    def _successor_of_finished(self, member: Member) -> Member:
        able = self._able()
        if self.is_ending or not able:
            return self.opener
        try:
            return self._drawn(able, member)
        except HiCacheError as error:
            member.error = member.error or error
            return self.opener

    def _needed(self, me: Member) -> StreamQueue | None:
        """Return a queue that somebody waits for, this thread first."""
        waiting = [me, *self.members]
        return next((self._needs[member] for member in waiting if member in self._needs), None)
