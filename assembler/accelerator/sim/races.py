"""What a race is, and the words for it."""

from dataclasses import dataclass
from typing import Literal

from typing_extensions import override

from assembler.accelerator.sim.clocks import Party
from assembler.accelerator.sim.sites import CallSite

Verb = Literal["read", "write"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Actor:
    """One operation, or one access of the host, as it is remembered for later ones.

    Attributes:
        party: the stream or host thread that does it.
        step: which of the party's steps it is.
        order: place in the program: of launching, not of happening.
        label: what it does, for people.
        site: where it was launched.
    """

    party: Party
    step: int
    order: int
    label: str
    site: CallSite

    @override
    def __str__(self) -> str:
        return f"{self.label!r} on {self.party} ({self.site.line})"


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

    first: Actor
    first_verb: Verb
    second: Actor
    second_verb: Verb
    buffer: str
    first_byte: int
    stop_byte: int

    @property
    def missing_edge(self) -> str:
        """What would order the two, in words."""
        first, second = self.first, self.second
        match first.party.kind, second.party.kind:
            case "stream", "stream":
                return (
                    f"{second.party} must wait for an event recorded on {first.party} after "
                    f"{first.label!r} and before {second.label!r} is launched"
                )
            case "stream", "host":
                return (
                    f"{second.party} must synchronise with {first.party} after {first.label!r} "
                    f"and before {second.label!r}"
                )
            case _:
                return f"{first.party} must hand over to {second.party} after {first.label!r}"

    @override
    def __str__(self) -> str:
        return (
            f"{self.first_verb} by {self.first} and {self.second_verb} by {self.second} "
            f"touch bytes {self.first_byte} to {self.stop_byte - 1} of {self.buffer}; "
            f"missing: {self.missing_edge}"
        )
