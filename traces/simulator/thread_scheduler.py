"""Host threads that take turns: one holds the baton, the schedule says who gets it next."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from typing_extensions import override

from assembler.device.host_threads.thread_scheduler import (
    GroupMember,
    ThreadCancelled,
    ThreadScheduler,
    ThreadWait,
)
from assembler.errors import DeadlockError, HiCacheError, HostThreadError
from traces.simulator.device_call_lock import POLLS_BEFORE_PROGRESS, DeviceCallLock
from traces.simulator.execution import QueueExecutor
from traces.simulator.queues import StreamQueue
from traces.simulator.schedule import Schedule
from traces.simulator.timelines import TimelineRegistry
from traces.simulator.vector_clocks import VectorClock

# Questions in a row, nothing else happening in between, after which none will be answered.
_MAX_IDLE_POLLS = 1000


class SimulatedThreadScheduler(ThreadScheduler):
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
        self,
        *,
        calls: DeviceCallLock,
        execution: QueueExecutor,
        timelines: TimelineRegistry,
        schedule: Schedule,
    ) -> None:
        super().__init__()
        self._calls = calls
        self._execution = execution
        self._timelines = timelines
        self._schedule = schedule
        self._holder = self.opener
        self._depth: dict[GroupMember, int] = {self.opener: 0}
        self._needs: dict[GroupMember, StreamQueue] = {}
        self._polling: set[GroupMember] = set()
        self._idle_poll_num = 0

    @override
    def open(self) -> None:
        with self._calls:
            if self._calls.scheduler is not None:
                raise HostThreadError(
                    "host threads", "must be in one block", expected="none open", got="a second one"
                )
            super().open()
            self.opener.wake_lock.acquire()
        self._calls.scheduler = self

    @override
    def begin(self, work: Callable[[], None], *, name: str) -> GroupMember:
        member = self.add(name=name)
        member.wake_lock.acquire()
        self._depth[member] = 0
        party = self._timelines.new_host(str(member))
        party.merge_clock(self.clock())

        def run() -> None:
            self._await_turn(member)
            self._timelines.bind_calling_thread(party)
            if not self.is_ending:
                self.run_as_member(member, work)
            member.clock = self.clock()
            member.is_finished = True
            self._idle_poll_num = 0
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
        self._calls.scheduler = None

    @override
    def exclusive(self) -> AbstractContextManager[object]:
        return self._calls

    def enter(self) -> None:
        """Begin a call of the calling thread; others may go first."""
        me = self.calling_thread()
        self._end_if_ending(me)
        self._await_turn(me)
        if self._depth[me] == 0:
            able = self._runnable_members()
            self._pass_on(me, self._drawn(able, me) if len(able) > 1 else me)
        self._depth[me] += 1

    def leave(self) -> None:
        """End a call of the calling thread."""
        me = self.calling_thread()
        self._depth[me] -= 1
        if self._depth[me] == 0:
            if me not in self._polling:
                self._idle_poll_num = 0
            self._polling.discard(me)

    @override
    def wait(self, is_over: Callable[[], bool], *, what: str) -> None:
        self.wait_for_device(is_over, queue=None, what=what)

    def wait_for_device(
        self, is_over: Callable[[], bool], *, queue: StreamQueue | None, what: str
    ) -> None:
        """As :meth:`wait`; ``queue`` is the one whose work is waited for, if that is known."""
        me = self.calling_thread()
        me.waiting = ThreadWait(is_over=is_over, what=what)
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
    def notify(self) -> None:
        self._idle_poll_num = 0

    @override
    def poll(self) -> None:
        me = self.calling_thread()
        self._polling.add(me)
        self._idle_poll_num += 1
        if self._idle_poll_num > _MAX_IDLE_POLLS:
            raise DeadlockError(
                "host threads",
                "what they ask for must be able to happen",
                expected=f"something in {_MAX_IDLE_POLLS} questions",
                got=", ".join(
                    f"{member} asks" for member in self.members if member in self._polling
                ),
            )
        if self._idle_poll_num % (POLLS_BEFORE_PROGRESS * len(self.members)) == 0:
            self._execution.force(self._needed(me))
        others = [member for member in self._runnable_members() if member is not me]
        quiet = [member for member in others if member not in self._polling]
        if others:
            self._pass_on(me, self._drawn(quiet or others, me))

    @override
    def clock(self) -> VectorClock:
        party = self._timelines.host()
        party.step()
        return dict(party.clock)

    @override
    def merge_clock(self, clock: dict[int, int]) -> None:
        self._timelines.host().merge_clock(clock)

    def _runnable_members(self) -> list[GroupMember]:
        return [member for member in self.members if member.is_runnable]

    def _drawn(self, runnable: list[GroupMember], last: GroupMember) -> GroupMember:
        numbers = [member.number for member in runnable]
        return self.members[self._schedule.choose_thread(numbers, current=last.number)]

    def _pass_on(self, calling_thread: GroupMember, successor: GroupMember) -> None:
        """Give the baton to another thread and wait until it comes back."""
        if successor is not calling_thread:
            self._hand_to(successor)
            self._await_turn(calling_thread)
        self._end_if_ending(calling_thread)

    def _hand_to(self, member: GroupMember) -> None:
        self._holder = member
        self._wake(member)

    def _await_turn(self, calling_thread: GroupMember) -> None:
        """Sleep until the calling thread holds the baton.

        The exception of a signal may have ended an earlier sleep, or come before the holder was
        woken: so a sleeper may be woken for nothing, and looks again.
        """
        while self._holder is not calling_thread:
            self._wake(self._holder)
            calling_thread.wake_lock.acquire()

    @staticmethod
    def _wake(member: GroupMember) -> None:
        # It raises when the gate is open already.
        with suppress(RuntimeError):
            member.wake_lock.release()

    def _end_if_ending(self, calling_thread: GroupMember) -> None:
        if self.is_ending and calling_thread is not self.opener:
            raise ThreadCancelled

    def _successor_of_blocked(self, calling_thread: GroupMember) -> GroupMember:
        """Return who goes next, the thread itself once something happened on the device."""
        if self._runnable_members():
            self._execution.offer()
            return self._drawn(self._runnable_members(), calling_thread)
        if self._execution.force(self._needed(calling_thread)):
            return calling_thread
        if calling_thread is not self.opener:
            return self.opener
        raise self.deadlock()

    def _successor_of_finished(self, member: GroupMember) -> GroupMember:
        able = self._runnable_members()
        if self.is_ending or not able:
            return self.opener
        try:
            return self._drawn(able, member)
        except HiCacheError as error:
            member.error = member.error or error
            return self.opener

    def _needed(self, calling_thread: GroupMember) -> StreamQueue | None:
        """Return a queue that somebody waits for, this thread first."""
        waiting = [calling_thread, *self.members]
        return next((self._needs[member] for member in waiting if member in self._needs), None)
