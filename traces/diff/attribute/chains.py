"""Chains of changed arguments, from the call that lost one to the object that needed it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from traces.diff.differences import TAKEN_KINDS, ArgumentChange
from traces.diff.index import argument_values, last_name
from traces.diff.pairing import CallPairing
from traces.diff.values import IDENTICAL, CallPair, Value, dotted_fields, is_informative, same_value
from traces.schema.model import Call, Part

_BUILDERS: tuple[Part, ...] = ("stack", "attach")
_BY_NAME, _BY_VALUES, _BY_OLD_VALUE, _UNRELATED = 3, 2, 1, 0


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
