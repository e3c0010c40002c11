"""Value lineage: chains of changed arguments, and the pools that a cause can reach."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from traces.diff.compare.events import EventDifference, EventFamily
from traces.diff.differences import TAKEN_KINDS, ArgumentChange, Difference
from traces.diff.index import RecordingIndex, argument_values, last_name
from traces.diff.pairing import CallPairing
from traces.diff.values import (
    IDENTICAL,
    CallPair,
    Value,
    dotted_fields,
    is_informative,
    references_in,
    same_value,
)
from traces.schema.model import Allocation, Call, Part
from traces.schema.verdict import Kind

_BUILDERS: tuple[Part, ...] = ("stack", "attach")
_BY_NAME, _BY_VALUES, _BY_OLD_VALUE, _UNRELATED = 3, 2, 1, 0
_LOST_OR_NEW = (Kind.TRANSFER_REMOVED, Kind.TRANSFER_ADDED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentChains:
    """Links from every changed argument to the one above that feeds it.

    Attributes:
        changes: head label to the differences of that call's arguments.
    """

    pairing: CallPairing
    changes: Mapping[str, Sequence[ArgumentChange]]

    def source(self, change: ArgumentChange) -> ArgumentChange | None:
        """Return the difference of an enclosing call that explains this one; None at the root.

        The search ends at a call that still has the argument as it was and does not pass it on.
        """
        for above in self._enclosing(change.pair):
            related = [(_relation(other, change), other) for other in self.changes[above.head.call]]
            strength, other = max(related, key=lambda item: item[0], default=(0, None))
            if strength == _BY_NAME or (strength and not self._keeps(above, change)):
                return other
            if self._keeps(above, change):
                return None
        return None

    def is_unchanged_above(self, change: ArgumentChange) -> bool:
        """Return whether an enclosing call has the argument unchanged: the fault is below it."""
        return any(self._keeps(above, change) for above in self._enclosing(change.pair))

    def _enclosing(self, pair: CallPair) -> Iterator[CallPair]:
        """Yield the paired calls around a call, innermost first: of the head, then of the base."""
        head = self.pairing.paired_ancestors(pair.head.call, in_head=True)
        base = self.pairing.paired_ancestors(pair.base.call, in_head=False)
        yield from {above.head.call: above for above in (*head, *base)}.values()

    def _keeps(self, above: CallPair, change: ArgumentChange) -> bool:
        old, new = _fields(above.base), _fields(above.head)
        return any(
            same_value(value, change.before, IDENTICAL)
            and same_value(value, new[name], self.pairing.references)
            for name, value in old.items()
            if name in new and _names(name, change.parameter)
        )

    def consumer(self, root: ArgumentChange, members: Sequence[ArgumentChange]) -> Call:
        """Return the deepest constructor call that a chain reaches.

        When the head never got there, because the call raised, it is the constructor that the
        value reached in the base.
        """
        top = root.pair.head
        below = [one for one in members if top in self.pairing.head.ancestors(one.pair.head.call)]
        reached = [one for one in members if one.pair.head is top or one in below]
        if made := [one for one in reached if one.pair.head.role == "constructor"]:
            return max(made, key=lambda one: (_relation(root, one), self._depth(one))).pair.head
        if root.kind in TAKEN_KINDS and root.effective and (got := self._reached(root)):
            return max(got, key=lambda call: self.pairing.base.depth(call.call))
        return max([root, *below], key=self._depth).pair.head

    def _depth(self, change: ArgumentChange) -> int:
        return self.pairing.head.depth(change.pair.head.call)

    def _reached(self, root: ArgumentChange) -> list[Call]:
        """Return the constructors of the base that got the value under the same name."""
        name = last_name(root.parameter)
        return [
            call
            for call in self.pairing.base.nested(root.pair.base.call)
            if call.role == "constructor"
            and name in argument_values(call)
            and same_value(argument_values(call)[name], root.before, IDENTICAL)
        ]

    def path(self, root: ArgumentChange, consumer: Call) -> list[Call]:
        """Return the calls from the root's down to the consumer's, both included."""
        head = self.pairing.head
        in_head = consumer.call in head.positions and head.call(consumer.call) is consumer
        side = self.pairing.side(in_head=in_head)
        top = root.pair.head if in_head else root.pair.base
        if consumer is top:
            return [top]
        enclosing = list(side.ancestors(consumer.call))
        if top not in enclosing:
            return [top, consumer]
        return [consumer, *enclosing[: enclosing.index(top) + 1]][::-1]


def responsible_builder(enclosing: Sequence[Call], path: Sequence[Call]) -> str | None:
    """Return the innermost stack builder, else attach function, else builder, on a path.

    The path leads from the calls around a fault, innermost first, to the final consumer.
    """
    calls = [*reversed(enclosing), *path]
    for part in _BUILDERS:
        if found := [call.callee for call in calls if call.part == part]:
            return found[-1]
    builders = (call.callee for call in enclosing if call.role == "builder")
    return next(builders, path[0].callee if path else None)


def _fields(call: Call) -> dict[str, Value]:
    return {
        name: value
        for argument in call.arguments
        for name, value in dotted_fields(argument.name, argument.value)
    }


def _names(field: str, parameter: str) -> bool:
    """Return whether a field is the parameter, as ``args.hicache_io_backend`` is ``io_backend``."""
    inner, wanted = last_name(field), last_name(parameter)
    return inner == wanted or (inner != field and inner.endswith(f"_{wanted}"))


def _relation(above: ArgumentChange, below: ArgumentChange) -> int:
    """Return how surely the upper difference feeds the lower one; 0 for not at all."""
    if above.effective != below.effective:
        return _UNRELATED
    named = _same_argument(above, below)
    if named or not above.effective:
        return _BY_NAME if named else _UNRELATED
    if any(_equal(pair, below) for pair in _value_pairs(above)):
        return _BY_VALUES
    fed = above.kind in TAKEN_KINDS and below.value_only and is_informative(below.before)
    is_equal = fed and same_value(above.before, below.before, IDENTICAL)
    return _BY_OLD_VALUE if is_equal else _UNRELATED


def _same_argument(above: ArgumentChange, below: ArgumentChange) -> bool:
    """Return whether one argument, or field, is handed down to the other by its name."""
    if above.parameter != above.name and below.parameter != below.name:
        # Fields of one record, or of two: only the same field is the same argument.
        return last_name(above.parameter) == last_name(below.parameter)
    return any(_names(name, below.name) for name in (above.name, above.parameter))


def _equal(pair: tuple[Value, Value], below: ArgumentChange) -> bool:
    both = zip(pair, (below.before, below.after), strict=True)
    is_telling = below.value_only or any(map(is_informative, pair))
    return is_telling and all(same_value(above, value, IDENTICAL) for above, value in both)


def _value_pairs(change: ArgumentChange) -> Iterator[tuple[Value, Value]]:
    """Yield the old and new value, and those of the fields of an object passed by value."""
    new = dict(dotted_fields("", change.after))
    for name, value in dotted_fields("", change.before):
        if name in new:
            yield value, new[name]


@dataclass(slots=True, kw_only=True)
class PoolFlow:
    """Lookup of the pools that a cause reaches.

    A constructor of a pool reaches its own pool, a constructor of something that holds pools (an
    entry, a group, a controller) those that its arguments lead to, and a list of pools that is
    handed over those that it names. What happens to another pool can follow only through slots,
    rows and room, and then something happens to the first pool as well.

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
