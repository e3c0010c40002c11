"""What a race is, and the words for it."""

from dataclasses import dataclass
from typing import Literal

from typing_extensions import override

from traces.simulator.launch_sites import LaunchSite
from traces.simulator.vector_clocks import Timeline

AccessKind = Literal["read", "write"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Accessor:
    """One operation, or one access of the host, as it is remembered for later ones.

    Attributes:
        party: the stream or host thread that does it.
        step: which of the party's steps it is.
        order: place in the program: of launching, not of happening.
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
        first: what the program did first; it may have happened second.
        first_verb: what it did to the bytes.
        second: what the program did second.
        second_verb: what it did to the bytes.
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
        """What would order the two, in words."""
        first, second = self.first, self.second
        match first.timeline.kind, second.timeline.kind:
            case "stream", "stream":
                return (
                    f"{second.timeline} must wait for an event recorded on {first.timeline} after "
                    f"{first.label!r} and before {second.label!r} is launched"
                )
            case "stream", "host":
                return (
                    f"{second.timeline} must synchronise with {first.timeline} after "
                    f"{first.label!r} and before {second.label!r}"
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
