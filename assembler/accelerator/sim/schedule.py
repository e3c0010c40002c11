"""Who goes next: the decisions of a simulated execution, drawn from a seed and written down."""

import random
from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import chain, repeat

from typing_extensions import override

from assembler.errors import ReplayError

# Streams come in threes in a stack: the default one, the backups' and the loads'.
_STARVED_ONE_IN = 3
_NOBODY = -1
_NOBODY_TEXT = "-"


class SchedulePolicy(StrEnum):
    """How decisions are made."""

    LATEST = "latest"
    EARLIEST = "earliest"
    STARVE = "starve"
    RANDOM = "random"


class Schedule:
    """Decides which stream's next operation happens, and when none does.

    Streams go by their ordinal on the device, 0 for the default stream.

    * ``latest``: an operation happens only when the host waits for it, or for one that needs it.
    * ``earliest``: everything happens as soon as it can.
    * ``starve``: as ``earliest``, but the streams whose ordinal leaves the same remainder as the
      seed when divided by 3 are treated as in ``latest``.
    * ``random``: each time the host calls the device, an operation happens with probability one
      half, and then perhaps another; while the host is blocked, any that can.

    The decisions depend on the seed, the policy and the calls, and on nothing else. Use a schedule
    for one device only.

    Attributes:
        seed: of the random numbers.
        policy: how to decide.
    """

    def __init__(self, *, seed: int, policy: SchedulePolicy) -> None:
        self.seed = seed
        self.policy = SchedulePolicy(policy)
        self._random = random.Random(seed)
        self._log: list[tuple[int, int]] = []

    def offer(self, ready: Sequence[int]) -> int | None:
        """Return which of the ready streams may do one operation, or None to wait.

        Args:
            ready: ordinals in ascending order, at least one.
        """
        return self._write_down(self._offered(ready))

    def force(self, ready: Sequence[int], *, needed: int | None) -> int:
        """Return which of the ready streams does one operation while the host is blocked.

        Args:
            ready: ordinals in ascending order, at least one.
            needed: the ready stream whose operation the host is waiting for; None when unknown.
        """
        chosen = self._write_down(self._forced(ready, needed))
        assert chosen is not None, "a blocked host makes something happen"
        return chosen

    def log(self) -> str:
        """Return all decisions: ordinals, and ``-`` for none; ``1*3`` stands for three times 1."""
        return " ".join(_as_text(answer, count) for answer, count in self._log)

    def _offered(self, ready: Sequence[int]) -> int | None:
        match self.policy:
            case SchedulePolicy.LATEST:
                return None
            case SchedulePolicy.EARLIEST:
                return ready[0]
            case SchedulePolicy.STARVE:
                return next((ordinal for ordinal in ready if not self._is_starved(ordinal)), None)
            case SchedulePolicy.RANDOM:
                choices = [*repeat(None, len(ready)), *ready]
                return choices[self._choose(len(choices))]

    def _forced(self, ready: Sequence[int], needed: int | None) -> int:
        if self.policy is SchedulePolicy.RANDOM:
            return ready[self._choose(len(ready))]
        return ready[0] if needed is None else needed

    def _is_starved(self, ordinal: int) -> bool:
        return ordinal % _STARVED_ONE_IN == self.seed % _STARVED_ONE_IN

    def _choose(self, choice_num: int) -> int:
        return int(self._random.random() * choice_num)

    def _write_down(self, chosen: int | None) -> int | None:
        answer = _NOBODY if chosen is None else chosen
        if self._log and self._log[-1][0] == answer:
            self._log[-1] = (answer, self._log[-1][1] + 1)
        else:
            self._log.append((answer, 1))
        return chosen


class ReplayedSchedule(Schedule):
    """Repeats the decisions of a log.

    Raises:
        ValueError: the text is no log.
        ReplayError: on use, when the program asks for other decisions than the log has.
    """

    def __init__(self, log: str) -> None:
        super().__init__(seed=0, policy=SchedulePolicy.LATEST)
        self._answers = _answers(log)

    @override
    def _offered(self, ready: Sequence[int]) -> int | None:
        return self._next(ready, is_optional=True)

    @override
    def _forced(self, ready: Sequence[int], needed: int | None) -> int:
        del needed
        chosen = self._next(ready, is_optional=False)
        assert chosen is not None, "checked by _next"
        return chosen

    def _next(self, ready: Sequence[int], *, is_optional: bool) -> int | None:
        answer = next(self._answers, None)
        if answer in ready:
            return answer
        if answer == _NOBODY and is_optional:
            return None
        raise ReplayError(
            "replay",
            "the program must be the one that was recorded",
            expected=f"a decision for one of the streams {list(ready)}",
            got="the end of the log" if answer is None else answer,
        )


def default_schedule() -> Schedule:
    """Return the schedule of a device that nobody asked a certain one of: as late as allowed."""
    return Schedule(seed=0, policy=SchedulePolicy.LATEST)


def _as_text(answer: int, count: int) -> str:
    text = _NOBODY_TEXT if answer == _NOBODY else str(answer)
    return text if count == 1 else f"{text}*{count}"


def _answers(log: str) -> Iterator[int]:
    words = [word.partition("*") for word in log.split()]
    runs = [
        repeat(_NOBODY if text == _NOBODY_TEXT else int(text), int(count) if star else 1)
        for text, star, count in words
    ]
    return chain.from_iterable(runs)
