"""Value lineage between pools: whether a cause can reach what happens to a pool.

A constructor of a pool reaches its own pool, a constructor of something that holds pools (an
entry, a group, a controller) those that its arguments lead to, and a list of pools that is handed
over those that it names. What happens to another pool can follow only through slots, rows and room,
and then something happens to the first pool as well.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from traces.diff.compare.events import EventDifference, EventFamily
from traces.diff.differences import Difference
from traces.diff.index import RecordingIndex, argument_values
from traces.diff.pairing import CallPairing
from traces.diff.values import Value, references_in
from traces.schema.model import Allocation, Call
from traces.schema.verdict import Kind

_LOST_OR_NEW = (Kind.TRANSFER_REMOVED, Kind.TRANSFER_ADDED)


@dataclass(slots=True, kw_only=True)
class PoolFlow:
    """Lookup of the pools that a cause reaches.

    Attributes:
        events: all differences of events, those left out that one side never came to.
    """

    pairing: CallPairing
    events: tuple[EventDifference, ...] = ()
    _pools: dict[tuple[bool, str], frozenset[str]] = field(default_factory=dict)

    def reaches(self, cause: Difference, found: Difference) -> bool:
        """Return whether a difference of a pool can follow from a cause.

        It can from a cause that is bound to no pool.
        """
        handed = self._handed_pools(cause)
        if len(handed) > 1:
            # Who hands several pools over does the same to all of them.
            return found.pool in handed and all(self._has_events(pool) for pool in handed)
        reached = handed or self._constructed_pools(cause)
        return not reached or found.pool in reached or self._passes_on(reached, found)

    def _passes_on(self, reached: Iterable[str], found: Difference) -> bool:
        """Return whether something happens to the reached pools that another pool can feel.

        A transfer comes or goes with those of another pool, or where room is allotted otherwise.
        """
        felt = (one for one in self.events if one.pool in reached and self._is_data(one))
        if found.kind in _LOST_OR_NEW:
            return any(
                one.kind in _LOST_OR_NEW or isinstance(one.event, Allocation) for one in felt
            )
        return any(True for _ in felt)

    def _has_events(self, pool: str) -> bool:
        return any(one.pool == pool for one in self.events)

    @staticmethod
    def _is_data(found: EventDifference) -> bool:
        return found.family is EventFamily.DATA

    def _handed_pools(self, cause: Difference) -> frozenset[str]:
        """Return the pools of a list of objects that a cause hands over, or does no more."""
        if cause.argument is None:
            return frozenset()
        old, new = (
            self._pools_of_value(value, in_head=in_head) if isinstance(value, list) else frozenset()
            for value, in_head in ((cause.before, False), (cause.after, True))
        )
        return old ^ new

    def _constructed_pools(self, cause: Difference) -> frozenset[str]:
        """Return the pools of the constructors in which a cause shows.

        An argument of another function may go anywhere.
        """
        if cause.argument is not None and cause.argument.pair.head.role != "constructor":
            return frozenset()
        return frozenset(
            pool
            for mark in cause.calls
            for side, _, label in (mark.partition(" "),)
            for pool in self._pools_of_call(label, in_head=side == "head")
        )

    def _pools_of_value(self, value: Value, *, in_head: bool) -> frozenset[str]:
        makers = self.pairing.side(in_head=in_head).makers
        labels = (label for label in references_in(value) if label in makers)
        return frozenset().union(
            *(self._pools_of_call(makers[label].call, in_head=in_head) for label in labels)
        )

    def _pools_of_call(self, label: str, *, in_head: bool) -> frozenset[str]:
        side = self.pairing.side(in_head=in_head)
        key = (in_head, label)
        if key not in self._pools and label in side.positions:
            call = side.call(label)
            # An object that holds itself leads nowhere new.
            self._pools[key] = frozenset()
            if call.role == "constructor":
                values = list(argument_values(call).values())
                own = _made_pools(side, call)
                self._pools[key] = own or self._pools_of_value(values, in_head=in_head)
        return self._pools.get(key, frozenset())


def _made_pools(side: RecordingIndex, call: Call) -> frozenset[str]:
    """Return the pools whose buffers belong to the object that a constructor makes."""
    return frozenset(
        tensor.pool
        for tensor in side.trace.tensors
        if (maker := side.makers.get(tensor.object)) is not None and maker.call == call.call
    )
