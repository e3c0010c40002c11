"""Decisions of a simulated execution: drawn from a seed, logged, and replayed from a log."""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import chain, repeat
from typing import TypeVar

from typing_extensions import override

from assembler.errors import HiCacheError

# Queries of unfinished work after which that work runs: a host that polls must see progress some
# day, as on a GPU.
POLLS_BEFORE_PROGRESS = 4
# Streams come in threes in a stack: the default one, the backups' and the loads'.
_STARVED_ONE_IN = 3
_DecisionT = TypeVar("_DecisionT")
_NO_STREAM = "-"
_THREAD_PREFIX = "@"
_DECISION = re.compile(r"(-|@?[0-9]+)(?:\*([0-9]+))?")


class ReplayError(HiCacheError, RuntimeError):
    """A program asks for other decisions than the log of a schedule has."""


class SchedulePolicy(StrEnum):
    """A way to choose the next stream or host thread."""

    LATEST = "latest"
    EARLIEST = "earliest"
    STARVE = "starve"
    RANDOM = "random"


class Schedule:
    """Chooses the stream whose next operation runs, or none.

    Streams go by their ordinal on the device, 0 for the default stream.

    * ``latest``: an operation happens only when the host waits for it, or for one that needs it.
    * ``earliest``: everything happens as soon as it can.
    * ``starve``: as ``earliest``, but the streams whose ordinal leaves the same remainder as the
      seed when divided by 3 are treated as in ``latest``.
    * ``random``: each time the host calls the device, an operation happens with probability one
      half, and then perhaps another; while the host is blocked, any that can.

    Host threads that take turns go by their number in the block. With ``latest`` a thread goes on
    until it has to wait; with ``earliest`` they change at every call, in a circle; with ``starve``
    too, but the threads whose number leaves the seed's remainder go only when no other can; with
    ``random`` each of them is as likely to be the next.

    The decisions depend on the seed, the policy and the calls, and on nothing else. Use a schedule
    for one device only.

    """

    def __init__(self, *, seed: int, policy: SchedulePolicy) -> None:
        self.seed = seed
        self.policy = SchedulePolicy(policy)
        self._random = random.Random(seed)
        self._log: list[tuple[str, int]] = []

    def offer(self, ready: Sequence[int]) -> int | None:
        """Return which ``ready`` stream, in ascending order, may do one operation, or None."""
        return self._log_stream(self._choose_optional(ready))

    def force(self, ready: Sequence[int], *, needed: int | None) -> int:
        """Return which of the ``ready`` streams does one operation while the host is blocked.

        The host waits for an operation of the stream ``needed``, None when that is unknown.
        """
        chosen = self._log_stream(self._choose_required(ready, needed))
        assert chosen is not None, "a blocked host makes something happen"
        return chosen

    def choose_thread(self, runnable: Sequence[int], *, current: int) -> int:
        """Return which of the ``runnable`` host threads, in ascending order, goes next.

        The thread ``current`` went last; it is not among them when it has to wait.
        """
        if len(runnable) == 1:
            return runnable[0]
        chosen = self._choose_next_thread(runnable, current)
        self._append_to_log(f"{_THREAD_PREFIX}{chosen}")
        return chosen

    def log(self) -> str:
        """Return all decisions, ``1*3`` for three times 1.

        Ordinals of streams, ``-`` for none, ``@1`` for the turn of host thread 1.
        """
        return " ".join(_as_text(answer, count) for answer, count in self._log)

    def _choose_optional(self, ready: Sequence[int]) -> int | None:
        match self.policy:
            case SchedulePolicy.LATEST:
                return None
            case SchedulePolicy.EARLIEST:
                return ready[0]
            case SchedulePolicy.STARVE:
                return next((ordinal for ordinal in ready if not self._is_starved(ordinal)), None)
            case SchedulePolicy.RANDOM:
                choices = [*repeat(None, len(ready)), *ready]
                return choices[self._draw(len(choices))]

    def _choose_required(self, ready: Sequence[int], needed: int | None) -> int:
        if self.policy is SchedulePolicy.RANDOM:
            return ready[self._draw(len(ready))]
        return ready[0] if needed is None else needed

    def _choose_next_thread(self, runnable: Sequence[int], current: int) -> int:
        match self.policy:
            case SchedulePolicy.LATEST:
                return current if current in runnable else _next_in_circle(runnable, current)
            case SchedulePolicy.EARLIEST:
                return _next_in_circle(runnable, current)
            case SchedulePolicy.STARVE:
                fed = [number for number in runnable if not self._is_starved(number)]
                return _next_in_circle(fed or runnable, current)
            case SchedulePolicy.RANDOM:
                return runnable[self._draw(len(runnable))]

    def _is_starved(self, ordinal: int) -> bool:
        return ordinal % _STARVED_ONE_IN == self.seed % _STARVED_ONE_IN

    def _draw(self, choice_num: int) -> int:
        return int(self._random.random() * choice_num)

    def _log_stream(self, chosen: int | None) -> int | None:
        self._append_to_log(_NO_STREAM if chosen is None else str(chosen))
        return chosen

    def _append_to_log(self, answer: str) -> None:
        if self._log and self._log[-1][0] == answer:
            self._log[-1] = (answer, self._log[-1][1] + 1)
        else:
            self._log.append((answer, 1))


class ReplayedSchedule(Schedule):
    """A schedule that repeats the decisions of a log.

    Raises:
        ValueError: the text is no log.
        ReplayError: on use, when the program asks for other decisions than the log has.
    """

    def __init__(self, log: str) -> None:
        super().__init__(seed=0, policy=SchedulePolicy.LATEST)
        self._answers = _answers(log)

    @override
    def _choose_optional(self, ready: Sequence[int]) -> int | None:
        answers = {str(ordinal): ordinal for ordinal in ready}
        return self._next({**answers, _NO_STREAM: None}, what=f"one of the streams {list(ready)}")

    @override
    def _choose_required(self, ready: Sequence[int], needed: int | None) -> int:
        del needed
        answers = {str(ordinal): ordinal for ordinal in ready}
        return self._next(answers, what=f"one of the streams {list(ready)}")

    @override
    def _choose_next_thread(self, runnable: Sequence[int], current: int) -> int:
        del current
        answers = {f"{_THREAD_PREFIX}{number}": number for number in runnable}
        return self._next(answers, what=f"one of the host threads {list(runnable)}")

    def _next(self, answers: Mapping[str, _DecisionT], *, what: str) -> _DecisionT:
        answer = next(self._answers, None)
        if answer is not None and answer in answers:
            return answers[answer]
        rule = "the program must be the one that was recorded"
        got = "the end of the log" if answer is None else answer
        raise ReplayError("replay", rule, expected=f"a decision for {what}", got=got)


def default_schedule() -> Schedule:
    """Return the default schedule: every operation runs as late as the ordering rules allow."""
    return Schedule(seed=0, policy=SchedulePolicy.LATEST)


def _next_in_circle(numbers: Sequence[int], current: int) -> int:
    return next((number for number in numbers if number > current), numbers[0])


def _as_text(answer: str, count: int) -> str:
    return answer if count == 1 else f"{answer}*{count}"


def _answers(log: str) -> Iterator[str]:
    runs = [_DECISION.fullmatch(word) for word in log.split()]
    if None in runs:
        raise ValueError(f"log: must be made of decisions; expected 1, -, @1 or 1*3, got {log}")
    repeated = [repeat(run[1], int(run[2] or 1)) for run in runs if run is not None]
    return chain.from_iterable(repeated)
