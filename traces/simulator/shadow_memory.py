"""Last accesses to each byte of one storage."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

# `np.unique` imports it when it is called, which would be in every fork that runs a scenario.
import numpy.ma

from traces.simulator.byte_spans import ByteSpans
from traces.simulator.races import Accessor


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteState:
    """The accesses to a range of bytes that a later access may be in conflict with.

    Attributes:
        writers: the last write, and those that nothing orders before it.
        readers: the last read of each timeline that nothing orders before the last write.
    """

    writers: tuple[Accessor, ...]
    readers: tuple[Accessor, ...]


StateUpdate: TypeAlias = Callable[[ByteState, int, int], ByteState]
"""Given a state and the first range of bytes that has it, returns the state after an access."""

_UNTOUCHED = ByteState(writers=(), readers=())
_SPARE_STATES = 64
_FEW_SPANS = 8


class ShadowMemory:
    """A map from bytes to states, kept as the edges between ranges of equal state."""

    def __init__(self) -> None:
        # Range i begins at edge i; the last one has no end.
        self._edges = [0]
        self._kinds = [0]
        self._states = {0: _UNTOUCHED}
        self._numbers = {_UNTOUCHED: 0}
        self._next = 1

    def visit(self, spans: ByteSpans, visit: StateUpdate) -> None:
        """Replace the state of every byte in ``spans``; each distinct state is visited once."""
        if 0 < len(spans) <= _FEW_SPANS:
            self._visit_few(spans.tolist(), visit)
        elif spans.size:
            self._visit_many(spans, visit)
        self._drop_unused()

    def _visit_few(self, spans: Sequence[Sequence[int]], visit: StateUpdate) -> None:
        """Visit ranges one by one: most accesses are to one whole tensor."""
        edges, kinds = self._edges, self._kinds
        places: list[tuple[int, int]] = []
        firsts: dict[int, int] = {}
        for start, stop in spans:
            place, end = self._split(start), self._split(stop)
            places.append((place, end))
            for number in range(place, end):
                firsts.setdefault(kinds[number], number)
        after = {
            kind: self._number(visit(self._states[kind], edges[first], edges[first + 1]))
            for kind, first in sorted(firsts.items())
        }
        for place, end in reversed(places):
            kinds[place:end] = [after[kind] for kind in kinds[place:end]]
            for number in range(end, max(place, 1) - 1, -1):
                if kinds[number] == kinds[number - 1]:
                    del edges[number], kinds[number]

    def _split(self, byte: int) -> int:
        """Return the number of the range that begins at a byte, which becomes an edge."""
        place = bisect_left(self._edges, byte)
        if place == len(self._edges) or self._edges[place] != byte:
            self._edges.insert(place, byte)
            self._kinds.insert(place, self._kinds[place - 1])
        return place

    def _visit_many(self, spans: ByteSpans, visit: StateUpdate) -> None:
        before, kinds_before = np.array(self._edges), np.array(self._kinds)
        edges = np.unique(np.concatenate((before, spans.ravel())))
        kinds = kinds_before[np.searchsorted(before, edges, side="right") - 1]
        place = np.searchsorted(spans[:, 0], edges, side="right") - 1
        is_inside = (place >= 0) & (edges < spans[place, 1])
        found, positions = np.unique(kinds[is_inside], return_index=True)
        firsts = np.flatnonzero(is_inside)[positions]
        after = [
            self._number(visit(self._states[int(kind)], int(edges[first]), int(edges[first + 1])))
            for kind, first in zip(found, firsts, strict=True)
        ]
        kinds[is_inside] = np.array(after)[np.searchsorted(found, kinds[is_inside])]
        is_edge = np.concatenate(([True], kinds[1:] != kinds[:-1]))
        self._edges, self._kinds = edges[is_edge].tolist(), kinds[is_edge].tolist()

    def _number(self, state: ByteState) -> int:
        number = self._numbers.get(state)
        if number is None:
            number = self._next
            self._next += 1
            self._numbers[state] = number
            self._states[number] = state
        return number

    def _drop_unused(self) -> None:
        if len(self._states) <= 2 * len(self._kinds) + _SPARE_STATES:
            return
        used = sorted(set(self._kinds))
        self._states = {number: self._states[number] for number in used}
        self._numbers = {state: number for number, state in self._states.items()}
