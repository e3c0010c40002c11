"""What a race is, and the words for it."""

from dataclasses import dataclass
from typing import Literal

from assembler.accelerator.sim.clocks import Party
from assembler.accelerator.sim.sites import CallSite

Verb = Literal["read", "write"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Actor:
    """One operation, or one access of the host, as it is remembered for later ones.

    Attributes:
        party: the stream or host thread that does it.
        step: which of the party's steps it is.
        label: what it does, for people.
        site: where it was launched.
    """

    party: Party
    step: int
    label: str
    site: CallSite

    def __str__(self) -> str:
        return f"{self.label!r} on {self.party} ({self.site.line})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """Two accesses to the same bytes, at least one of them a write, that nothing orders.

    Attributes:
        first: what happened first in this execution.
        first_verb: what it did to the bytes.
        second: what happened second.
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
            case "host", "stream":
                return (
                    f"{first.party} must synchronise with {second.party} after {second.label!r} "
                    f"and before {first.label!r}"
                )
            case _:
                return f"{first.party} must hand over to {second.party} after {first.label!r}"

    def __str__(self) -> str:
        return (
            f"{self.first_verb} by {self.first} and {self.second_verb} by {self.second} "
            f"touch bytes {self.first_byte} to {self.stop_byte - 1} of {self.buffer}; "
            f"missing: {self.missing_edge}"
        )
