"""Last accesses to each byte of one storage."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

# `np.unique` imports it when it is called, which would be in every fork that runs a scenario.
import numpy.ma
import numpy.typing as npt

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


class ShadowMemory:
    """A map from bytes to states, kept as the edges between ranges of equal state."""

    def __init__(self) -> None:
        self._edges: npt.NDArray[np.int64] = np.zeros(1, np.int64)
        self._kinds: npt.NDArray[np.int64] = np.zeros(1, np.int64)
        self._states = {0: _UNTOUCHED}
        self._numbers = {_UNTOUCHED: 0}
        self._next = 1

    def visit(self, spans: ByteSpans, visit: StateUpdate) -> None:
        """Replace the state of every byte in ``spans``; each distinct state is visited once."""
        if spans.size == 0:
            return
        if len(spans) == 1 and self._visit_whole(int(spans[0, 0]), int(spans[0, 1]), visit):
            return
        edges = np.unique(np.concatenate((self._edges, spans.ravel())))
        kinds = self._kinds[np.searchsorted(self._edges, edges, side="right") - 1]
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
        self._edges, self._kinds = edges[is_edge], kinds[is_edge]
        self._drop_unused()

    def _visit_whole(self, start: int, stop: int, visit: StateUpdate) -> bool:
        """Visit one range of bytes if it is a range of one state; return whether it is.

        Most accesses are to a whole tensor that earlier ones were to as well.
        """
        place = int(np.searchsorted(self._edges, start))
        if place + 1 >= len(self._edges) or self._edges[place] != start:
            return False
        if self._edges[place + 1] != stop:
            return False
        number = self._number(visit(self._states[int(self._kinds[place])], start, stop))
        self._kinds[place] = number
        is_edge = np.ones(len(self._edges), np.bool_)
        is_edge[place] = place == 0 or self._kinds[place - 1] != number
        is_edge[place + 1] = self._kinds[place + 1] != number
        if not is_edge.all():
            self._edges, self._kinds = self._edges[is_edge], self._kinds[is_edge]
        self._drop_unused()
        return True

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
        used = np.unique(self._kinds).tolist()
        self._states = {number: self._states[number] for number in used}
        self._numbers = {state: number for number, state in self._states.items()}
