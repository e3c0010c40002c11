"""Subjects of random traffic, and the violations they raise."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeAlias

from traces.explore.config import TrafficConfig
from traces.explore.steps import TrafficStep


class ViolationError(Exception):
    """Base of the violations of an invariant; each invariant has a subclass.

    Attributes:
        invariant: the invariant, in words.
    """

    invariant = "an invariant holds"


class RaceViolationError(ViolationError):
    """Two conflicting accesses that nothing orders."""

    invariant = "conflicting accesses are ordered"


class BytesViolationError(ViolationError):
    """Bytes of a node, or bytes served to a reader, that differ from those written."""

    invariant = "bytes served are the bytes written"


class SlotsViolationError(ViolationError):
    """A slot that was lost, or has two owners."""

    invariant = "every slot is free or has one owner"


class QueueViolationError(ViolationError):
    """Work, or the lock on a node, that was left over."""

    invariant = "queues drain and locks are released"


class RefusalViolationError(ViolationError):
    """A request that was refused although there was room."""

    invariant = "what there is room for is not refused"


class UnexpectedViolationError(ViolationError):
    """An exception that was not injected, or a failure that was swallowed."""

    invariant = "only an injected failure raises"


class Subject(Protocol):
    """A stack with its model."""

    def live_nodes(self) -> list[int]:
        """Return the numbers of the nodes that still exist, oldest first."""

    def apply(self, step: TrafficStep) -> None:
        """Apply a step and check what can be checked at once; raises ViolationError."""

    def finish(self) -> None:
        """Finish all queued work and check that nothing is left; raises ViolationError."""


OpenSubject: TypeAlias = Callable[[TrafficConfig], Subject]


def run_steps(
    config: TrafficConfig, steps: Sequence[TrafficStep], *, open_subject: OpenSubject
) -> ViolationError | None:
    """Apply steps to a fresh subject, without Hypothesis; return the violation, if any."""
    subject = open_subject(config)
    try:
        for step in steps:
            subject.apply(step)
        subject.finish()
    except ViolationError as violation:
        return violation
    return None


@contextmanager
def unexpected_errors_as_violations() -> Iterator[None]:
    """Turn any error into a violation that names the line."""
    try:
        yield
    except ViolationError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
        raise UnexpectedViolationError(f"{type(error).__name__}: {error} ({where})") from error
