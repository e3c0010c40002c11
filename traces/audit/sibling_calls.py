"""Calls that can be compared as siblings, and values whose absence means nothing.

A call that makes the host pool of a draft is no sibling of one that makes that of the model, an
entry whose pool has no buffer mirrors nothing, and where there is no draft none can be passed. A
number, a name or a flag may be left out where what is built does not take it, or gets it from
elsewhere.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from traces.audit.assembly_calls import SCENARIO_CALLER, AssemblyCall, encode_value
from traces.audit.lineage import Fields, sources_of
from traces.schema.model import Argument, Call, Recording, RoundTrip

Passed = Sequence[tuple[AssemblyCall, Argument]]

_NAME = "name"


class StackCalls:
    """The calls of one scenario, by what they make and by what they are made from."""

    def __init__(self, recording: Recording) -> None:
        trace = recording.trace
        self._children: dict[str, list[Call]] = {}
        self._entry_names: dict[str, str] = {}
        self._buffered = {tensor.object for tensor in trace.tensors if tensor.side == "host"}
        on_device = [tensor for tensor in trace.tensors if tensor.side == "device"]
        self._rows_of = {tensor.object: tensor.pool for tensor in on_device if tensor.is_named}
        self._rows = {tensor.pool for tensor in on_device}
        self._rows |= {one.pool for one in trace.digests if isinstance(one, RoundTrip)}
        for call in trace.calls:
            self._children.setdefault(call.parent, []).append(call)
            name = _entry_name(call)
            for label in _direct_references(call) if name else ():
                self._entry_names.setdefault(label, name)

    def entry_of(self, call: Call) -> str:
        """Return the name of the entry that a call makes, or makes a pool of; empty for none."""
        made = call.returns.get("ref", "") if isinstance(call.returns, dict) else ""
        return _entry_name(call) or self._entry_names.get(made, "")

    def mirrors_nothing(self, call: Call) -> bool:
        """Return whether a call makes an entry of pools without a buffer."""
        pools = set(_direct_references(call))
        return bool(_entry_name(call) and pools) and not self._buffered & pools

    def rows_of(self, value: Any) -> set[str]:  # noqa: ANN401 - any encoded value
        """Return the pools whose rows the objects of a value hold on the device."""
        return {self._rows_of[label] for label in _labels(value) if label in self._rows_of}

    def has_rows(self, pools: Collection[str]) -> bool:
        """Return whether there are such rows on the device; of no pool there always are."""
        return not pools or not self._rows.isdisjoint(pools)

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


def is_own_literal(passing: Passed, everywhere: Passed, known: Mapping[str, Fields]) -> bool:
    """Return whether functions pass a value of their own: the same in all scenarios, by line.

    ``everywhere`` are the same argument's values in all calls. One scenario shows nothing: there
    everything is the same.
    """
    lines = {seen.location for seen, _ in passing}
    if None in lines or any(seen.caller == SCENARIO_CALLER for seen, _ in passing):
        return False
    for line in lines:
        pairs = [(seen, item.value) for seen, item in everywhere if seen.location == line]
        source = sources_of(pairs, known=known)
        is_shown = len({seen.scenario for seen, _ in pairs}) > 1
        if not (is_shown and source.is_literal and source.constant):
            return False
    return True


def _entry_name(call: Call) -> str:
    first = call.arguments[0] if call.arguments else None
    is_name = first is not None and first.name == _NAME and isinstance(first.value, str)
    return first.value if first is not None and is_name else ""


def _labels(value: Any) -> Iterator[str]:  # noqa: ANN401 - any encoded value
    """Yield the labels of all objects in a value."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _labels(item)
    elif isinstance(value, dict) and value.keys() == {"ref"}:
        yield value["ref"]


def _direct_references(call: Call) -> Iterator[str]:
    for item in call.arguments:
        if isinstance(item.value, dict) and item.value.keys() == {"ref"}:
            yield item.value["ref"]
