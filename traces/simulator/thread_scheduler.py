"""Host threads that take turns at the calls of a device: the schedule chooses the next."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from typing_extensions import override

from assembler.device.host_threads.thread_scheduler import (
    GroupMember,
    ThreadCancelled,
    ThreadScheduler,
    ThreadWait,
)
from assembler.errors import DeadlockError, HiCacheError, HostThreadError
from traces.simulator.queues import QueueExecutor, StreamQueue
from traces.simulator.schedule import POLLS_BEFORE_PROGRESS, Schedule
from traces.simulator.vector_clocks import TimelineRegistry, VectorClock

# Queries in a row, with no other call in between, that count as a deadlock.
_MAX_IDLE_POLLS = 1000


class DeviceCallLock:
    """Lets one host thread at a time in: by a lock, or by a scheduler while one is set.

    Entering may nest. With a scheduler, another thread may run first at the outermost entry.

    Attributes:
        scheduler: of the open thread group; None without one.
    """

    def __init__(self) -> None:
        self.scheduler: SimulatedThreadScheduler | None = None
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()
        scheduler = self.scheduler
        if scheduler is not None:
            # The scheduled thread needs no lock, and must not keep one while others run.
            self._lock.release()
            scheduler.enter()

    def __exit__(self, *_: object) -> None:
        if self.scheduler is None:
            self._lock.release()
        else:
            self.scheduler.leave()

    @contextmanager
    def without_scheduling(self) -> Iterator[None]:
        """Run a read-only query under the lock, without a scheduling point."""
        with self._lock:
            yield

    def poll(self) -> None:
        """Report that the calling thread queried work that is not done."""
        if self.scheduler is not None:
            self.scheduler.poll()


class SimulatedThreadScheduler(ThreadScheduler):
    """Real threads of which one runs at a time.

    Threads switch at calls of the device and of flags and queues: before each of them, and where
    they wait. Host code between two calls is never interrupted.
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
                rule, got = "must be in one block", "a second one"
                raise HostThreadError("host threads", rule, expected="none open", got=got)
            super().open()
            self.opener.wake_lock.acquire()
        self._calls.scheduler = self

    @override
    def begin(self, work: Callable[[], None], *, name: str) -> GroupMember:
        member = self.add(name=name)
        member.wake_lock.acquire()
        self._depth[member] = 0
        timeline = self._timelines.new_host(str(member))
        # Starting a thread is an edge: it is ordered after all that its starter did before.
        timeline.merge_clock(self.clock())

        def run() -> None:
            self._await_turn(member)
            self._timelines.bind_calling_thread(timeline)
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
            # It has ended, and does nothing any more beside what the opener does from here on.
            self.merge_clock(member.clock)
        self.is_open = False
        self._calls.scheduler = None

    @override
    def exclusive(self) -> AbstractContextManager[object]:
        return self._calls

    def enter(self) -> None:
        """Begin a call of the calling thread; other threads may run first."""
        caller = self.calling_thread()
        self._end_if_ending(caller)
        self._await_turn(caller)
        if self._depth[caller] == 0:
            runnable = self._runnable_members()
            successor = self._drawn(runnable, caller) if len(runnable) > 1 else caller
            self._pass_on(caller, successor)
        self._depth[caller] += 1

    def leave(self) -> None:
        """End a call of the calling thread."""
        caller = self.calling_thread()
        self._depth[caller] -= 1
        if self._depth[caller] == 0:
            if caller not in self._polling:
                self._idle_poll_num = 0
            self._polling.discard(caller)

    @override
    def wait(self, is_over: Callable[[], bool], *, what: str) -> None:
        self.wait_for_device(is_over, queue=None, what=what)

    def wait_for_device(
        self, is_over: Callable[[], bool], *, queue: StreamQueue | None, what: str
    ) -> None:
        """Wait as :meth:`wait` does; ``queue`` is the queue waited for, if that is known."""
        caller = self.calling_thread()
        caller.waiting = ThreadWait(is_over=is_over, what=what)
        if queue is not None:
            self._needs[caller] = queue
        try:
            self._end_if_ending(caller)
            while not is_over():
                self._pass_on(caller, self._successor_of_blocked(caller))
        finally:
            caller.waiting = None
            self._needs.pop(caller, None)

    @override
    def notify(self) -> None:
        self._idle_poll_num = 0

    @override
    def poll(self) -> None:
        caller = self.calling_thread()
        self._polling.add(caller)
        self._idle_poll_num += 1
        if self._idle_poll_num > _MAX_IDLE_POLLS:
            rule = "polled work must be able to finish"
            polling = [f"{member} polls" for member in self.members if member in self._polling]
            expected = f"progress within {_MAX_IDLE_POLLS} polls"
            raise DeadlockError("host threads", rule, expected=expected, got=", ".join(polling))
        if self._idle_poll_num % (POLLS_BEFORE_PROGRESS * len(self.members)) == 0:
            self._execution.force(self._needed(caller))
        others = [member for member in self._runnable_members() if member is not caller]
        working = [member for member in others if member not in self._polling]
        if others:
            self._pass_on(caller, self._drawn(working or others, caller))

    @override
    def clock(self) -> VectorClock:
        timeline = self._timelines.host()
        timeline.step()
        return dict(timeline.clock)

    @override
    def merge_clock(self, clock: dict[int, int]) -> None:
        self._timelines.host().merge_clock(clock)

    def _runnable_members(self) -> list[GroupMember]:
        return [member for member in self.members if member.is_runnable]

    def _drawn(self, runnable: list[GroupMember], last: GroupMember) -> GroupMember:
        numbers = [member.number for member in runnable]
        return self.members[self._schedule.choose_thread(numbers, current=last.number)]

    def _pass_on(self, calling_thread: GroupMember, successor: GroupMember) -> None:
        """Let another thread run and wait for the turn to come back."""
        if successor is not calling_thread:
            self._hand_to(successor)
            self._await_turn(calling_thread)
        self._end_if_ending(calling_thread)

    def _hand_to(self, member: GroupMember) -> None:
        self._holder = member
        self._wake(member)

    def _await_turn(self, calling_thread: GroupMember) -> None:
        """Sleep until it is the calling thread's turn.

        A signal's exception may have ended an earlier sleep, or come before the holder was woken:
        a thread may therefore wake without its turn, and checks again.
        """
        while self._holder is not calling_thread:
            self._wake(self._holder)
            calling_thread.wake_lock.acquire()

    @staticmethod
    def _wake(member: GroupMember) -> None:
        # Releasing an unlocked lock raises RuntimeError; the thread is awake already then.
        with suppress(RuntimeError):
            member.wake_lock.release()

    def _end_if_ending(self, calling_thread: GroupMember) -> None:
        if self.is_ending and calling_thread is not self.opener:
            raise ThreadCancelled

    def _successor_of_blocked(self, calling_thread: GroupMember) -> GroupMember:
        """Return the next thread; the blocked one itself once work ran on the device."""
        if self._runnable_members():
            self._execution.offer()
            return self._drawn(self._runnable_members(), calling_thread)
        if self._execution.force(self._needed(calling_thread)):
            return calling_thread
        if calling_thread is not self.opener:
            return self.opener
        raise self.deadlock()

    def _successor_of_finished(self, member: GroupMember) -> GroupMember:
        runnable = self._runnable_members()
        if self.is_ending or not runnable:
            return self.opener
        try:
            return self._drawn(runnable, member)
        except HiCacheError as error:
            member.error = member.error or error
            return self.opener

    def _needed(self, calling_thread: GroupMember) -> StreamQueue | None:
        """Return a queue that a thread waits for, the calling thread's first."""
        waiting = [calling_thread, *self.members]
        return next((self._needs[member] for member in waiting if member in self._needs), None)
