"""Calls while they run, and the state of the threads that make them."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from traces.recording.binding import BoundArgument
from traces.recording.encode import Plain
from traces.recording.probes import CallProbe
from traces.recording.source_sites import RawSite
from traces.recording.thread_order import ThreadNumber
from traces.schema.model import Argument, Failure, Unbound


@dataclass(slots=True, kw_only=True, eq=False)
class OpenCall:
    """A call while it runs, and until the record is assembled.

    Attributes:
        thread: number of its thread in the record.
        subject: the object of a method; let go when the call is over.
        bound: the arguments themselves; let go when the call is over.
    """

    label: str
    parent: str
    caller: str
    step: str
    probe: CallProbe
    callee: str
    site: RawSite
    thread: ThreadNumber
    subject: object
    bound: tuple[BoundArgument, ...]
    unbound: Unbound | None
    arguments: list[Argument] = field(default_factory=list)
    returns: Plain = None
    raises: Failure | None = None
    is_over: bool = False


class ThreadState(threading.local):
    """Calls and nesting of the running thread."""

    def __init__(self) -> None:
        self.is_busy = False
        self.calls: list[OpenCall] = []
        self.depth: Counter[str] = Counter()
        self.observed: Counter[str] = Counter()


def is_super_call(calls: list[OpenCall], probe: CallProbe, args: tuple[Any, ...]) -> bool:
    """Return whether this is the overridden method, called by the method that overrides it."""
    if not (calls and probe.method and args):
        return False
    last = calls[-1]
    return (
        last.subject is args[0]
        and last.probe.method == probe.method
        and last.probe.function is not probe.function
    )
