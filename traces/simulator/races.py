"""Races and their description in words."""

from dataclasses import dataclass
from typing import Literal

from typing_extensions import override

from traces.simulator.launch_sites import LaunchSite
from traces.simulator.vector_clocks import Timeline

AccessKind = Literal["read", "write"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Accessor:
    """One operation, or one access of the host, as later accesses are compared with it.

    Attributes:
        timeline: the stream or host thread.
        step: number of the timeline's step.
        order: place in the program: by launch, not by execution.
        label: what it does, for people.
        site: where it was launched.
    """

    timeline: Timeline
    step: int
    order: int
    label: str
    site: LaunchSite

    @override
    def __str__(self) -> str:
        return f"{self.label!r} on {self.timeline} ({self.site.line})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """Two accesses to the same bytes, at least one of them a write, that nothing orders.

    Attributes:
        first: launched first by the program; it may have run second.
        first_kind: how it accessed the bytes.
        second: launched second by the program.
        second_kind: how it accessed the bytes.
        buffer: the memory: its kind, number and size.
        first_byte: of the first range that both touch, in the memory.
        stop_byte: after that range.
    """

    first: Accessor
    first_kind: AccessKind
    second: Accessor
    second_kind: AccessKind
    buffer: str
    first_byte: int
    stop_byte: int

    @property
    def missing_edge(self) -> str:
        """The edge that would order the two, in words."""
        first, second = self.first, self.second
        match first.timeline.kind, second.timeline.kind:
            case "stream", "stream":
                return (
                    f"{second.timeline} must wait for an event recorded on {first.timeline} after "
                    f"{first.label!r} and before {second.label!r} is launched"
                )
            case "stream", "host":
                return (
                    f"{second.timeline} must synchronise with {first.timeline} "
                    f"after {first.label!r} and before {second.label!r}"
                )
            case _:
                return f"{first.timeline} must hand over to {second.timeline} after {first.label!r}"

    @override
    def __str__(self) -> str:
        return (
            f"{self.first_kind} by {self.first} and {self.second_kind} by {self.second} "
            f"touch bytes {self.first_byte} to {self.stop_byte - 1} of {self.buffer}; "
            f"missing: {self.missing_edge}"
        )
