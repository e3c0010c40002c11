"""Vector clocks of streams and host threads.

A *party* is what does things one after the other: a stream or a host thread. Its clock says, for
each party, how many of that party's steps have certainly happened before its own next one.
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from typing_extensions import override

VectorClock: TypeAlias = dict[int, int]
"""Steps that have happened, by the number of the party; absent means none."""


@dataclass(slots=True, kw_only=True, eq=False)
class Timeline:
    """A stream or a host thread.

    Attributes:
        number: from 0, in the order of creation.
        kind: what it is.
        name: role of the stream, or ``host``.
        clock: what has happened before its next step.
    """

    number: int
    kind: Literal["stream", "host"]
    name: str
    clock: VectorClock = field(default_factory=dict)

    def step(self) -> int:
        """Begin a step of this party and return its number, 1 for the first."""
        steps = self.clock.get(self.number, 0) + 1
        self.clock[self.number] = steps
        return steps

    def merge_clock(self, clock: VectorClock) -> None:
        """Order this party's later steps after everything that ``clock`` knows."""
        own = self.clock
        for number, steps in clock.items():
            if own.get(number, 0) < steps:
                own[number] = steps

    def forget(self) -> None:
        """Forget the other parties; its own steps keep counting."""
        self.clock = {self.number: self.clock.get(self.number, 0)}

    @override
    def __str__(self) -> str:
        return f"stream {self.name}" if self.kind == "stream" else self.name


def has_happened(clock: VectorClock, *, timeline: int, step: int) -> bool:
    """Return whether ``party``'s ``step`` happened before whoever has ``clock``."""
    return clock.get(timeline, 0) >= step
