"""Groups calls that only one side has: what was added or removed together is one difference."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from traces.diff.differences import Difference, DiffLayer, make_difference
from traces.diff.index import RecordingIndex, argument_values
from traces.diff.pairing import CallPairing
from traces.diff.values import CallPair, Value, references_in
from traces.schema.model import Call
from traces.schema.verdict import Kind, Level


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmatchedCall:
    """A call without partner.

    Attributes:
        position: place among the calls of the head: even where a call is missing, odd for one.
        enclosing: the nearest enclosing call that has a partner; None at the top.
        truncated: whether it is missing only because the other side ended early.
    """

    call: Call
    removed: bool
    position: int
    enclosing: CallPair | None
    truncated: bool

    @property
    def is_builder(self) -> bool:
        """Whether it only structures the assembly."""
        return self.call.role == "builder"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmatchedCalls:
    """The lone calls of two sides."""

    base: RecordingIndex
    head: RecordingIndex
    pairing: CallPairing

    def unmatched_calls(self) -> list[UnmatchedCall]:
        """Return the calls without partner, in order."""
        return sorted((*self._removed(), *self._added()), key=lambda lone: lone.position)

    def groups(self, unmatched_calls: Sequence[UnmatchedCall]) -> list[list[UnmatchedCall]]:
        """Group nested calls, calls that get each other's objects, and replacements."""
        sides: dict[str, set[bool]] = {}
        for lone in unmatched_calls:
            sides.setdefault(_replacement_slot(lone), set()).add(lone.removed)
        replaced = {place for place, both in sides.items() if place and len(both) > 1}
        leaders = _DisjointSets()
        groups: dict[str, list[UnmatchedCall]] = {}
        keyed = [
            (lone, [*self._keys(lone), *({_replacement_slot(lone)} & replaced)])
            for lone in unmatched_calls
        ]
        for _, keys in keyed:
            leaders.join(keys)
        for lone, keys in keyed:
            groups.setdefault(leaders.find(keys[0]), []).append(lone)
        return list(groups.values())

    def _removed(self) -> Iterator[UnmatchedCall]:
        places = _head_positions(self.base, self.head, self.pairing)
        last = max((self.base.positions[label] for label in self.pairing.by_base_call), default=-1)
        for call in self.pairing.removed:
            index = self.base.positions[call.call]
            enclosing = self._enclosing(self.base, call, self.pairing.by_base_call)
            yield UnmatchedCall(
                call=call,
                removed=True,
                position=2 * places[index],
                enclosing=enclosing,
                truncated=(self.head.failed and index > last) or self._left(enclosing, index),
            )

    def _added(self) -> Iterator[UnmatchedCall]:
        last = max((self.head.positions[label] for label in self.pairing.by_head_call), default=-1)
        for call in self.pairing.added:
            index = self.head.positions[call.call]
            yield UnmatchedCall(
                call=call,
                removed=False,
                position=2 * index + 1,
                enclosing=self._enclosing(self.head, call, self.pairing.by_head_call),
                truncated=self.base.failed and index > last,
            )

    def _left(self, enclosing: CallPair | None, index: int) -> bool:
        """Tell whether an exception left the enclosing call of the head before it came so far."""
        if enclosing is None or enclosing.head.raises is None or enclosing.base.raises is not None:
            return False
        inner = (call.call for call in self.base.nested(enclosing.base.call))
        made = (self.base.positions[label] for label in inner if label in self.pairing.by_base_call)
        return index > max(made, default=-1)

    @staticmethod
    def _enclosing(
        side: RecordingIndex, call: Call, paired: dict[str, CallPair]
    ) -> CallPair | None:
        above = side.ancestors(call.call)
        return next((paired[one.call] for one in above if one.call in paired), None)

    def _keys(self, lone: UnmatchedCall) -> Iterator[str]:
        """Yield what a call shares with the others of its group."""
        side = self.base if lone.removed else self.head
        paired = self.pairing.by_base_call if lone.removed else self.pairing.by_head_call
        mark = "base" if lone.removed else "head"
        yield f"{mark} {lone.call.call}"
        if lone.call.parent in side.positions and lone.call.parent not in paired:
            yield f"{mark} {lone.call.parent}"
        for label in references_in(list(argument_values(lone.call).values())):
            maker = side.makers.get(label)
            if maker is not None and maker.call not in paired and not lone.is_builder:
                yield f"{mark} {maker.call}"
        if lone.call.role == "operation":
            yield f"{mark} {lone.call.callee} in {lone.call.step}"


class _DisjointSets:
    """Disjoint sets of keys."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def find(self, key: str) -> str:
        while (above := self._above.get(key, key)) != key:
            self._above[key] = self._above.get(above, above)
            key = above
        return key

    def join(self, keys: Sequence[str]) -> None:
        for key in keys[1:]:
            self._above[self.find(key)] = self.find(keys[0])


def _replacement_slot(lone: UnmatchedCall) -> str:
    """Return where a constructor call could have replaced another; empty for other calls."""
    if lone.call.role != "constructor":
        return ""
    return "in the scenario" if lone.enclosing is None else f"in {lone.enclosing.head.call}"


def unmatched_difference(lone: UnmatchedCall, *, layer: DiffLayer) -> Difference:
    """Turn a lone call into a difference."""
    caller = lone.call.parent.rpartition("#")[0]
    described = plain_arguments(lone.call)
    return make_difference(
        Kind.CALL_REMOVED if lone.removed else Kind.CALL_ADDED,
        f"{lone.call.callee} in {caller}" if caller else lone.call.callee,
        before=described if lone.removed else None,
        after=None if lone.removed else described,
        layer=layer,
        position=lone.position,
        level=Level.INTERFACE if lone.is_builder else Level.BEHAVIOUR,
        base_call=lone.call.call if lone.removed else "",
        head_call="" if lone.removed else lone.call.call,
        truncated=lone.truncated,
    )


def plain_arguments(call: Call) -> Value:
    """Return the given plain arguments of a call: enough to tell it from its siblings."""
    return {
        argument.name: argument.value
        for argument in call.arguments
        if argument.given and not isinstance(argument.value, dict | list | tuple)
    }


def _head_positions(base: RecordingIndex, head: RecordingIndex, pairing: CallPairing) -> list[int]:
    """Return, for every call of the base, the head's place after the last paired call."""
    place = 0
    places: list[int] = []
    for call in base.calls:
        if call.call in pairing.by_base_call:
            place = head.positions[pairing.by_base_call[call.call].head.call] + 1
        places.append(place)
    return places
