"""One side of a comparison: a recording with its calls indexed as a tree."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from traces.schema.model import Call, Failure, Location, Recording, Sites, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingIndex:
    """A recording and lookups into it.

    Attributes:
        sites: empty for a trace without sites.
        calls: parents before children, siblings in the order of the trace.
        positions: call label to its index in ``calls``.
        children: call label to its direct calls.
        makers: object label to the call that constructed the object.
    """

    trace: Trace
    sites: Sites
    calls: tuple[Call, ...]
    positions: dict[str, int]
    children: dict[str, tuple[Call, ...]]
    makers: dict[str, Call]

    def class_of(self, label: str) -> str:
        """Return the class of an object; its label where the trace does not know it."""
        return self.trace.objects.get(label, label)

    @classmethod
    def of(cls, recorded: Recording | Trace) -> "RecordingIndex":
        """Index a recording, or a trace without sites."""
        trace = recorded if isinstance(recorded, Trace) else recorded.trace
        sites = None if isinstance(recorded, Trace) else recorded.sites
        children = _children(trace)
        calls = tuple(_preorder(children))
        return cls(
            trace=trace,
            sites=sites or Sites(calls={}, definitions={}, events=()),
            calls=calls,
            positions={call.call: index for index, call in enumerate(calls)},
            children={label: tuple(made) for label, made in children.items()},
            makers={label: call for call in calls if (label := made_label(call))},
        )

    @property
    def failed(self) -> bool:
        """True when the scenario ended in an exception."""
        return not self.trace.outcome.ok

    def call(self, label: str) -> Call:
        """Return the call of a label."""
        return self.calls[self.positions[label]]

    def ancestors(self, label: str) -> Iterator[Call]:
        """Yield the enclosing recorded calls, innermost first."""
        parent = self.call(label).parent
        while parent in self.positions:
            call = self.call(parent)
            yield call
            parent = call.parent

    def depth(self, label: str) -> int:
        """Return the number of enclosing recorded calls."""
        return sum(1 for _ in self.ancestors(label))

    def nested(self, label: str) -> Iterator[Call]:
        """Yield every call made inside a call, parents first."""
        for child in self.children.get(label, ()):
            yield child
            yield from self.nested(child.call)

    def origin(self, failure: Failure) -> Call | None:
        """Return the innermost call that an exception left; None when no recorded call did."""
        raising = [call for call in self.calls if call.raises == failure]
        return max(raising, key=lambda call: self.depth(call.call), default=None)

    def call_line(self, label: str) -> Location | None:
        """Return the line that made a call, else the definition of its callee."""
        line = self.sites.calls.get(label)
        if line is None and label in self.positions:
            return self.sites.definitions.get(self.call(label).callee)
        return line

    def is_default(self, callee: str, parameter: str, value: Any) -> bool:  # noqa: ANN401
        """Return whether leaving a parameter out means the same as giving ``value``.

        ``True`` is not 1: a value of another type is another value.
        """
        defaults = self.sites.defaults.get(callee, {})
        default = defaults.get(parameter)
        equal = type(default) is type(value) and bool(default == value)
        return parameter in defaults and equal

    def event_line(self, index: int) -> Location | None:
        """Return the line an event came from."""
        return self.sites.events[index] if 0 <= index < len(self.sites.events) else None


def made_label(call: Call) -> str:
    """Return the label of the object a constructor call made; empty for any other call."""
    if call.role == "constructor" and isinstance(call.returns, dict):
        return str(call.returns.get("ref", ""))
    return ""


def last_name(callee: str) -> str:
    """Return a qualified name's last part, ``write`` of ``HybridCacheController.write``."""
    return callee.rpartition(".")[2]


def argument_values(call: Call) -> dict[str, Any]:
    """Return the arguments of a call by name."""
    return {argument.name: argument.value for argument in call.arguments}


def _children(trace: Trace) -> dict[str, list[Call]]:
    known = {call.call for call in trace.calls}
    children: dict[str, list[Call]] = {}
    for call in trace.calls:
        children.setdefault(call.parent if call.parent in known else "", []).append(call)
    return children


def _preorder(children: dict[str, list[Call]]) -> Iterator[Call]:
    pending = list(reversed(children.get("", [])))
    while pending:
        call = pending.pop()
        yield call
        pending += reversed(children.get(call.call, []))
