"""What traffic runs against, and what it may find."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from traces.explore.config import TrafficConfig
from traces.explore.steps import TrafficStep


class ViolationError(Exception):
    """A stack did what no stack may do; each invariant has a subclass.

    Attributes:
        invariant: what was violated, in words.
    """

    invariant = "an invariant holds"


class RaceViolationError(ViolationError):
    """Two accesses to the same bytes that nothing orders."""

    invariant = "conflicting accesses are ordered"


class BytesViolationError(ViolationError):
    """A node, or a reader, got other bytes than were written."""

    invariant = "bytes served are the bytes written"


class SlotsViolationError(ViolationError):
    """A slot was lost, or has two owners."""

    invariant = "every slot is free or has one owner"


class QueueViolationError(ViolationError):
    """Work, or the lock on a node, was left over."""

    invariant = "queues drain and locks are released"


class RefusalViolationError(ViolationError):
    """Something was refused though there was room."""

    invariant = "what there is room for is not refused"


class UnexpectedViolationError(ViolationError):
    """An exception that nobody injected, or a failure that was swallowed."""

    invariant = "only an injected failure raises"


class Subject(Protocol):
    """A stack with its model."""

    def live_nodes(self) -> list[int]:
        """Return the numbers of the nodes that still exist, oldest first."""

    def apply(self, step: TrafficStep) -> None:
        """Take a step and check what can be checked at once; raises ViolationError."""

    def finish(self) -> None:
        """Bring everything to an end and check that nothing is left; raises ViolationError."""


OpenSubject: TypeAlias = Callable[[TrafficConfig], Subject]


def run_steps(
    case: TrafficConfig, steps: Sequence[TrafficStep], *, open_subject: OpenSubject
) -> ViolationError | None:
    """Take some steps, without Hypothesis, and return the violation they end in, if any."""
    subject = open_subject(case)
    try:
        for step in steps:
            subject.apply(step)
        subject.finish()
    except ViolationError as violation:
        return violation
    return None
