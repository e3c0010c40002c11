"""Vector clocks of streams and host threads.

A *timeline* is a sequence of steps: a stream or a host thread. Its clock holds, for each timeline,
the number of its steps that have certainly happened before the next step of this one.
"""

import itertools
import threading
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from typing_extensions import override

VectorClock: TypeAlias = dict[int, int]
"""Steps that have happened, by the number of the timeline; absent means none."""


@dataclass(slots=True, kw_only=True, eq=False)
class Timeline:
    """A stream or a host thread.

    Attributes:
        number: from 0, in the order of creation.
        kind: stream or host thread.
        name: role of the stream, or ``host``.
        clock: steps that have happened before its next one.
    """

    number: int
    kind: Literal["stream", "host"]
    name: str
    clock: VectorClock = field(default_factory=dict)

    def step(self) -> int:
        """Begin a step and return its number, 1 for the first."""
        steps = self.clock.get(self.number, 0) + 1
        self.clock[self.number] = steps
        return steps

    def merge_clock(self, clock: VectorClock) -> None:
        """Order later steps of this timeline after all steps in ``clock``."""
        own = self.clock
        for number, steps in clock.items():
            if own.get(number, 0) < steps:
                own[number] = steps

    def forget(self) -> None:
        """Drop the other timelines' steps; its own keep counting."""
        self.clock = {self.number: self.clock.get(self.number, 0)}

    @override
    def __str__(self) -> str:
        return f"stream {self.name}" if self.kind == "stream" else self.name


def has_happened(clock: VectorClock, *, timeline: int, step: int) -> bool:
    """Return whether ``step`` of ``timeline`` is ordered before the holder of ``clock``."""
    return clock.get(timeline, 0) >= step


class _CallingTimeline(threading.local):
    """The calling host thread's timeline; None until it calls the device."""

    timeline: Timeline | None = None


class TimelineRegistry:
    """The numbered timelines of a device, and that of the calling thread."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._thread = _CallingTimeline()
        self._host_num = 0

    @property
    def is_one_thread(self) -> bool:
        """True if all calls so far came from one host thread."""
        return self._host_num <= 1

    def stream(self, name: str) -> Timeline:
        """Return a new timeline for a stream."""
        return Timeline(number=next(self._numbers), kind="stream", name=name)

    def host(self) -> Timeline:
        """Return the calling thread's timeline; a new one is ordered after no other."""
        if self._thread.timeline is None:
            name = "the host" if self._host_num == 0 else f"host thread {self._host_num}"
            self._thread.timeline = self.new_host(name)
        return self._thread.timeline

    def new_host(self, name: str) -> Timeline:
        """Return a new timeline for a host thread that is about to start."""
        self._host_num += 1
        return Timeline(number=next(self._numbers), kind="host", name=name)

    def bind_calling_thread(self, timeline: Timeline) -> None:
        """Set the calling thread's timeline."""
        self._thread.timeline = timeline
