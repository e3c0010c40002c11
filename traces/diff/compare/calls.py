"""Comparison of calls: those that are made, their order, their callers, their arguments."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from traces.diff.differences import ArgumentChange, Difference, DiffLayer
from traces.diff.index import RecordingIndex, argument_values
from traces.diff.pairing import CallPairing
from traces.diff.steps import refused_steps
from traces.diff.values import (
    CallPair,
    FieldChange,
    Value,
    field_changes,
    references_in,
    same_value,
)
from traces.schema.model import Argument, Call, Unbound
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
        """True for a call that only structures the assembly."""
        return self.call.role == "builder"

    def difference(self, layer: DiffLayer) -> Difference:
        """Return the difference that the call is."""
        call, caller = self.call, self.call.caller
        # The given plain arguments are enough to tell it from its siblings.
        given = (item for item in call.arguments if item.given)
        plain = (item for item in given if not isinstance(item.value, dict | list | tuple))
        described = {item.name: item.value for item in plain}
        return Difference(
            kind=Kind.CALL_REMOVED if self.removed else Kind.CALL_ADDED,
            where=f"{call.callee} in {caller}" if caller else call.callee,
            subject=call.callee,
            before=described if self.removed else None,
            after=None if self.removed else described,
            layer=layer,
            position=self.position,
            level=Level.INTERFACE if self.is_builder else Level.BEHAVIOUR,
            base_call=call.call if self.removed else "",
            head_call="" if self.removed else call.call,
            truncated=self.truncated,
        )


def unmatched_calls(pairing: CallPairing) -> list[UnmatchedCall]:
    """Return the calls without partner, in order."""
    found = [*_removed_calls(pairing), *_added_calls(pairing)]
    return sorted(found, key=lambda unmatched: unmatched.position)


def group_calls(pairing: CallPairing, calls: Sequence[UnmatchedCall]) -> list[list[UnmatchedCall]]:
    """Group nested calls, calls that get each other's objects, and replacements.

    What was added or removed together is one difference.
    """
    sides: dict[str, set[bool]] = {}
    for one in calls:
        sides.setdefault(_replacement_slot(one), set()).add(one.removed)
    replaced = {slot for slot, both in sides.items() if slot and len(both) > 1}
    sets = _DisjointSets()
    keyed = [
        (one, [*_shared_keys(pairing, one), *({_replacement_slot(one)} & replaced)])
        for one in calls
    ]
    for _, keys in keyed:
        sets.join(keys)
    groups: dict[str, list[UnmatchedCall]] = {}
    for one, keys in keyed:
        groups.setdefault(sets.find(keys[0]), []).append(one)
    return list(groups.values())


def reordered_calls(pairing: CallPairing) -> Iterator[Difference]:
    """Yield calls that changed their place: of operations behaviour, else interface."""
    for pair in pairing.moved:
        base, head = pairing.base.positions, pairing.head.positions
        late = pair.head.role == "operation"
        layer = DiffLayer.OPERATIONS if late else DiffLayer.ASSEMBLY
        yield _reordered(pairing, pair, (base[pair.base.call], head[pair.head.call]), layer)


def calls_with_new_caller(pairing: CallPairing) -> Iterator[Difference]:
    """Yield calls made by another function; layers that came or went do not count."""
    for pair in pairing.pairs:
        old = pairing.enclosing(pair.base.call, in_head=False)
        new = pairing.enclosing(pair.head.call, in_head=True)
        if old is not new:
            before, after = old and old.base.callee, new and new.head.callee
            yield _reordered(pairing, pair, (before, after), DiffLayer.ASSEMBLY)


def _reordered(
    pairing: CallPairing, pair: CallPair, values: tuple[Value, Value], layer: DiffLayer
) -> Difference:
    return Difference(
        kind=Kind.CALL_REORDERED,
        where=pair.head.callee,
        before=values[0],
        after=values[1],
        layer=layer,
        position=2 * pairing.head.positions[pair.head.call] + 1,
        level=Level.INTERFACE if layer is DiffLayer.ASSEMBLY else Level.BEHAVIOUR,
        pattern="calls",
        base_call=pair.base.call,
        head_call=pair.head.call,
    )


def _removed_calls(pairing: CallPairing) -> Iterator[UnmatchedCall]:
    base, paired = pairing.base, pairing.by_base_call
    last = max((base.positions[label] for label in paired), default=-1)
    refused = _newly_refused(pairing, in_head=True)
    position = 0
    for index, call in enumerate(base.calls):
        if call.call in paired:
            position = 2 * pairing.head.positions[paired[call.call].head.call] + 2
            continue
        enclosing = pairing.enclosing(call.call, in_head=False)
        is_after_end = (pairing.head.failed and index > last) or call.step in refused
        yield UnmatchedCall(
            call=call,
            removed=True,
            position=position,
            enclosing=enclosing,
            truncated=is_after_end or _is_cut_off(pairing, enclosing, index, in_head=False),
        )


def _added_calls(pairing: CallPairing) -> Iterator[UnmatchedCall]:
    head = pairing.head
    last = max((head.positions[label] for label in pairing.by_head_call), default=-1)
    refused = _newly_refused(pairing, in_head=False)
    for call in pairing.added:
        index = head.positions[call.call]
        enclosing = pairing.enclosing(call.call, in_head=True)
        is_after_end = (pairing.base.failed and index > last) or call.step in refused
        yield UnmatchedCall(
            call=call,
            removed=False,
            position=2 * index + 1,
            enclosing=enclosing,
            truncated=is_after_end or _is_cut_off(pairing, enclosing, index, in_head=True),
        )


def _newly_refused(pairing: CallPairing, *, in_head: bool) -> frozenset[str]:
    """Return the steps that a side refuses and the other one does not."""
    own, other = pairing.side(in_head=in_head), pairing.side(in_head=not in_head)
    return refused_steps(own.calls) - refused_steps(other.calls)


def _is_cut_off(
    pairing: CallPairing, enclosing: CallPair | None, index: int, *, in_head: bool
) -> bool:
    """Return whether an exception left the enclosing call of the other side before it came so far.

    ``index`` is the place of the call on its own side.
    """
    if enclosing is None:
        return False
    own, other = enclosing.base, enclosing.head
    if in_head:
        own, other = other, own
    if other.raises is None or other.raises == own.raises:
        return False
    side, paired = pairing.side(in_head=in_head), pairing.by_call(in_head=in_head)
    inner = (call.call for call in side.nested(own.call))
    made = (side.positions[label] for label in inner if label in paired)
    return index > max(made, default=-1)


def _shared_keys(pairing: CallPairing, unmatched: UnmatchedCall) -> Iterator[str]:
    """Yield what a call shares with the others of its group."""
    call, removed = unmatched.call, unmatched.removed
    side, paired = pairing.side(in_head=not removed), pairing.by_call(in_head=not removed)
    mark = "base" if removed else "head"
    yield f"{mark} {call.call}"
    if call.parent in side.positions and call.parent not in paired:
        yield f"{mark} {call.parent}"
    for label in references_in(list(argument_values(call).values())):
        maker = side.makers.get(label)
        if maker is not None and maker.call not in paired and not unmatched.is_builder:
            yield f"{mark} {maker.call}"
    if call.role == "operation":
        yield f"{mark} {call.callee} in {call.step}"


def _replacement_slot(unmatched: UnmatchedCall) -> str:
    """Return where a constructor call could have replaced another; empty for other calls."""
    if unmatched.call.role != "constructor":
        return ""
    enclosing = unmatched.enclosing
    return "in the scenario" if enclosing is None else f"in {enclosing.head.call}"


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


def argument_changes(
    pair: CallPair, *, pairing: CallPairing, parameters: Mapping[str, str]
) -> list[ArgumentChange]:
    """Return the differences of the arguments of one call, in signature order.

    Parameters of the base have their new name in the head.
    """
    call = _CallComparison(
        pair=pair,
        pairing=pairing,
        base_error=_unbound(pair.base, pairing.base, partner=pair.head),
        head_error=_unbound(pair.head, pairing.head, partner=pair.base),
    )
    new = {argument.name: argument for argument in pair.head.arguments}
    old = {}
    for name, argument in {one.name: one for one in pair.base.arguments}.items():
        renamed = parameters.get(name, name)
        old[renamed if name not in new and renamed in new else name] = argument
    names = [*new, *(name for name in old if name not in new)]
    order = {name: index for index, name in enumerate(old)}
    names.sort(key=lambda name: order.get(name, len(order)))
    found = [
        change for name in names for change in call.changes(name, old.get(name), new.get(name))
    ]
    return found + list(call.newly_required())


@dataclass(frozen=True, slots=True, kw_only=True)
class _CallComparison:
    """Comparison of the arguments of one call; its bind errors are None when it bound."""

    pair: CallPair
    pairing: CallPairing
    base_error: Unbound | None
    head_error: Unbound | None

    def changes(
        self, name: str, old: Argument | None, new: Argument | None
    ) -> Iterator[ArgumentChange]:
        """Yield the differences of one argument, None for a side that lacks it."""
        if old is not None and new is not None:
            yield from self._both(name, old, new)
        elif (found := old or new) is not None:
            yield from self._one_sided(name, found, in_head=old is None)

    def newly_required(self) -> Iterator[ArgumentChange]:
        """Yield parameters that the head's callee requires and that were never given."""
        pair = self.pair
        known = {argument.name for argument in (*pair.base.arguments, *pair.head.arguments)}
        for name in () if self.head_error is None else self.head_error.missing:
            if name not in known and pair.base.raises != pair.head.raises:
                yield self._made(Kind.PARAMETER_ADDED, name, None, None)

    def _both(self, name: str, old: Argument, new: Argument) -> Iterator[ArgumentChange]:
        references = self.pairing.references
        error = self.head_error
        if self.base_error is None and error is not None and name == error.unexpected:
            yield self._made(Kind.PARAMETER_REMOVED, name, old.value, None)
        elif old.given == new.given:
            by_default = not old.given
            for one in field_changes(name, old.value, new.value, references):
                yield self._field(name, one, by_default=by_default)
        else:
            kind = Kind.ARGUMENT_DROPPED if old.given else Kind.ARGUMENT_ADDED
            effective = not same_value(old.value, new.value, references)
            yield self._made(kind, name, old.value, new.value, effective=effective)

    def _field(self, name: str, found: FieldChange, *, by_default: bool) -> ArgumentChange:
        """Return the change of an argument, or of a field of it."""
        kind = Kind.ARGUMENT_CHANGED
        if not (found.has_before and found.has_after):
            kind = Kind.ARGUMENT_DROPPED if found.has_before else Kind.ARGUMENT_ADDED
        return ArgumentChange(
            pair=self.pair,
            kind=kind,
            name=name,
            parameter=found.name,
            before=found.before,
            after=found.after,
            by_default=by_default,
        )

    def _one_sided(self, name: str, found: Argument, *, in_head: bool) -> Iterator[ArgumentChange]:
        call = self.pair.head if in_head else self.pair.base
        if (self.base_error if in_head else self.head_error) is not None and not found.given:
            return
        before, after = (None, found.value) if in_head else (found.value, None)
        if self.base_error is not None or self.head_error is not None or _is_extra(name):
            kind = Kind.ARGUMENT_ADDED if in_head else Kind.ARGUMENT_DROPPED
            yield self._made(kind, name, before, after)
            return
        kind = Kind.PARAMETER_ADDED if in_head else Kind.PARAMETER_REMOVED
        side = self.pairing.side(in_head=in_head)
        effective = found.given and not side.is_default(call.callee, name, found.value)
        yield self._made(kind, name, before, after, effective=effective)

    def _made(
        self, kind: Kind, name: str, before: Value, after: Value, *, effective: bool = True
    ) -> ArgumentChange:
        return ArgumentChange(
            pair=self.pair,
            kind=kind,
            name=name,
            parameter=name,
            before=before,
            after=after,
            effective=effective,
        )


def _unbound(call: Call, side: RecordingIndex, *, partner: Call) -> Unbound | None:
    """Return which arguments of a call did not fit; None when it bound, whatever happened inside.

    Of the constructors that one object runs through, only the first is recorded: what another one
    lacks counts for it, if the other side has it.
    """
    if call.unbound is not None or call.raises is None or call.role != "constructor":
        return call.unbound
    error = call.raises.unbound
    is_raw = all(argument.given for argument in call.arguments)
    if error is None or not is_raw or side.children.get(call.call):
        return None
    names, bound = argument_values(call).keys(), argument_values(partner).keys()
    lacking = set(error.missing) & (bound - names)
    return error if lacking or error.unexpected in names else None


def _is_extra(name: str) -> bool:
    """Return whether a name is none of the signature: ``kwargs.key``, ``args[0]``."""
    return "." in name or "[" in name
