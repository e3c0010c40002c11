"""Calls that can be compared as siblings, and values whose absence means nothing.

A call that makes the host pool of a draft is no sibling of one that makes that of the model, and an
entry whose pool has no buffer mirrors nothing. A number, a name or a flag may be left out where
what is built does not take it, or gets it from elsewhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from traces.audit.assembly_calls import SCENARIO_CALLER, AssemblyCall, encode_value
from traces.audit.lineage import Fields, sources_of
from traces.schema.model import Argument, Call, Recording

Passed = Sequence[tuple[AssemblyCall, Argument]]

_NAME = "name"


class StackCalls:
    """The calls of one scenario, by what they make and by what they are made from."""

    def __init__(self, recording: Recording) -> None:
        trace = recording.trace
        self._children: dict[str, list[Call]] = {}
        self._entry_names: dict[str, str] = {}
        self._buffered = {tensor.object for tensor in trace.tensors if tensor.side == "host"}
        for call in trace.calls:
            self._children.setdefault(call.parent, []).append(call)
            name = _entry_name(call)
            for label in _direct_references(call) if name else ():
                self._entry_names.setdefault(label, name)

    def subject(self, call: Call) -> str:
        """Return the callee, with the name of the entry that the call makes or makes a pool of."""
        made = call.returns.get("ref", "") if isinstance(call.returns, dict) else ""
        name = _entry_name(call) or self._entry_names.get(made, "")
        return f"{call.callee}[{name}]" if name else call.callee

    def mirrors_nothing(self, call: Call) -> bool:
        """Return whether a call makes an entry of pools without a buffer."""
        pools = set(_direct_references(call))
        return bool(_entry_name(call) and pools) and not self._buffered & pools

    def is_lost(self, call: Call, item: Argument) -> bool:
        """Return whether something that a call builds takes an argument and is left with it."""
        own = encode_value(item.value)
        takers = (one for one in self._below(call) if one.role == "constructor")
        taken = (other for one in takers for other in one.arguments if other.name == item.name)
        return any(encode_value(other.value) == own for other in taken)

    def _below(self, call: Call) -> Iterator[Call]:
        yield call
        for child in self._children.get(call.call, ()):
            yield from self._below(child)


def is_plain(value: Any) -> bool:  # noqa: ANN401 - any encoded value
    """Return whether a value is a number, a name or a flag, and no object."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return not isinstance(value, dict)


def is_own_literal(passing: Passed, known: Mapping[str, Fields]) -> bool:
    """Return whether functions pass a value of their own: the same in all scenarios, by line.

    One scenario shows nothing: there everything is the same.
    """
    by_line: dict[tuple[str, int], list[tuple[AssemblyCall, Any]]] = {}
    for seen, item in passing:
        if seen.caller == SCENARIO_CALLER or seen.location is None:
            return False
        place = (seen.location.file, seen.location.line)
        by_line.setdefault(place, []).append((seen, item.value))
    sources = [sources_of(pairs, known=known) for pairs in by_line.values()]
    is_shown = all(len({seen.scenario for seen, _ in pairs}) > 1 for pairs in by_line.values())
    return is_shown and all(one.is_literal and one.constant for one in sources)


def _entry_name(call: Call) -> str:
    first = call.arguments[0] if call.arguments else None
    is_name = first is not None and first.name == _NAME and isinstance(first.value, str)
    return first.value if first is not None and is_name else ""


def _direct_references(call: Call) -> Iterator[str]:
    for item in call.arguments:
        if isinstance(item.value, dict) and item.value.keys() == {"ref"}:
            yield item.value["ref"]
