"""Pairing of the same calls on both sides, independent of caller and name.

Constructors and operations are one flat sequence, builders another. Parents are ignored, so that a
moved builder, an extracted helper or a layer in between cannot disturb the constructors. A new
name for an old callee or parameter is recognised, so that it is one difference and not many.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from traces.diff.align import AlignmentKeys, align, longest_increasing
from traces.diff.index import RecordingIndex, argument_values
from traces.diff.values import (
    CallPair,
    OwnerMap,
    ReferenceMap,
    by_first_use,
    content_key,
    is_informative,
    same_value,
)
from traces.schema.model import Argument, Call

_ROLES = ({"constructor", "operation"}, {"builder"})
_MOVED_LIKENESS = 1.5
"""A call that changed its place is still the same call when half of its arguments are equal."""
_SHARE_OF_EQUAL_VALUES = 0.5
_SIMILAR_NAMES = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMaps:
    """The class of every object of both sides by its label, under the head's names.

    Attributes:
        renamed: callee of the base to callee of the head.
    """

    base: Mapping[str, str]
    head: Mapping[str, str]
    renamed: Mapping[str, str]

    @classmethod
    def of(
        cls, base: RecordingIndex, head: RecordingIndex, renamed: Mapping[str, str]
    ) -> "ClassMaps":
        """Translate the classes of the base."""
        old = base.trace.objects.items()
        translated = {label: renamed.get(name, name) for label, name in old}
        return cls(base=translated, head=head.trace.objects, renamed=renamed)

    @property
    def both(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """The classes of base and head."""
        return self.base, self.head


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPairing:
    """The calls of two sides, paired.

    Attributes:
        pairs: in the order of the head.
        removed: calls of the base without partner, in order.
        added: calls of the head without partner, in order.
        moved: the pairs whose order differs from that of the others.
        classes: of all objects, under the head's names.
        by_base_call: label to its pair; ``by_head_call`` likewise.
    """

    base: RecordingIndex
    head: RecordingIndex
    pairs: tuple[CallPair, ...]
    removed: tuple[Call, ...]
    added: tuple[Call, ...]
    moved: tuple[CallPair, ...]
    references: ReferenceMap
    classes: ClassMaps
    owners: OwnerMap
    by_base_call: dict[str, CallPair]
    by_head_call: dict[str, CallPair]

    def side(self, *, in_head: bool) -> RecordingIndex:
        """Return the head or the base."""
        return self.head if in_head else self.base

    def by_call(self, *, in_head: bool) -> dict[str, CallPair]:
        """Return the pairs by the label of the head or of the base."""
        return self.by_head_call if in_head else self.by_base_call

    def call(self, *, base: str, head: str) -> Call | None:
        """Return the call of the head's label, else of the base's; None when both are empty."""
        label = head or base
        return self.side(in_head=bool(head)).call(label) if label else None

    def paired_ancestors(self, label: str, *, in_head: bool) -> Iterator[CallPair]:
        """Yield the enclosing calls that have a partner, innermost first."""
        paired = self.by_call(in_head=in_head)
        above = self.side(in_head=in_head).ancestors(label)
        return (paired[call.call] for call in above if call.call in paired)

    def enclosing(self, label: str, *, in_head: bool) -> CallPair | None:
        """Return the nearest enclosing call that has a partner; None at the top."""
        return next(self.paired_ancestors(label, in_head=in_head), None)


def pair_calls(base: RecordingIndex, head: RecordingIndex) -> CallPairing:
    """Pair the calls of two sides.

    Equal calls in another order are paired crosswise only if that settles differences and makes
    no new one: else it was the values that were swapped.
    """
    classes = ClassMaps.of(base, head, _renamed_callees(base, head))
    pairs = [pair for roles in _ROLES for pair in _paired(base, head, roles, classes)]
    plain = _pairing(base, head, pairs, classes)
    untangled = _uncross_pairs(plain)
    if all(plain.by_base_call[pair.base.call].head is pair.head for pair in untangled):
        return plain
    other = _pairing(base, head, untangled, classes)
    return other if _differing(other) < _differing(plain) else plain


def renamed_parameters(pairing: CallPairing) -> dict[str, str]:
    """Return parameters of the base that have another name in the head, over all callees."""
    votes: dict[tuple[str, str], bool] = {}
    for pair in pairing.pairs:
        for old in _missing_arguments(pair.base, pair.head):
            for name in _missing_arguments(pair.head, pair.base):
                vote = _is_same_argument(old, name, pair, pairing)
                votes[old.name, name.name] = vote and votes.get((old.name, name.name), True)
    agreed = [names for names, vote in votes.items() if vote]
    return _one_to_one(sorted(agreed, key=lambda names: -_resemblance(*names)))


def _likeness(base: Call, head: Call, classes: ClassMaps) -> float:
    """Return 1 to 2.5 for two calls of the same callee, by equal arguments and equal caller."""
    old, new = argument_values(base), argument_values(head)
    names = old.keys() | new.keys()
    shared = old.keys() & new.keys()
    equal = sum(
        content_key(old[one], classes.base) == content_key(new[one], classes.head) for one in shared
    )
    share = equal / len(names) if names else 1.0
    return 1.0 + share + 0.5 * (base.caller == head.caller)


def _paired(
    base: RecordingIndex, head: RecordingIndex, roles: set[str], classes: ClassMaps
) -> Iterator[CallPair]:
    old = [call for call in base.calls if call.role in roles]
    new = [call for call in head.calls if call.role in roles]
    keys = _keys(old, classes.base, classes.renamed), _keys(new, classes.head, {})
    alignment = align(*keys, likeness=lambda i, j: _likeness(old[i], new[j], classes))
    yield from (CallPair(base=old[i], head=new[j]) for i, j in alignment.pairs)
    left = [old[i] for hunk in alignment.hunks for i in hunk.base]
    over = [new[j] for hunk in alignment.hunks for j in hunk.head]
    yield from _pair_leftovers(left, over, classes)


def _keys(
    calls: Sequence[Call], classes: Mapping[str, str], renamed: Mapping[str, str]
) -> AlignmentKeys:
    loose = [_loose_key(call, renamed) for call in calls]
    values = [[[item.name, item.value, item.given] for item in call.arguments] for call in calls]
    exact = [(key, content_key(value, classes)) for key, value in zip(loose, values, strict=True)]
    return AlignmentKeys(exact=exact, loose=loose)


def _loose_key(call: Call, renamed: Mapping[str, str]) -> Hashable:
    return renamed.get(call.callee, call.callee), call.step


def _moved_key(call: Call, renamed: Mapping[str, str]) -> Hashable:
    """Return what a call that moved keeps: a builder may have moved to another step."""
    callee = renamed.get(call.callee, call.callee)
    return callee if call.role == "builder" else (callee, call.step)


def _pair_leftovers(
    left: Iterable[Call], over: Sequence[Call], classes: ClassMaps
) -> Iterator[CallPair]:
    """Pair calls that were lost in one place and appear in another: they moved."""
    waiting: dict[Hashable, list[Call]] = defaultdict(list)
    for call in over:
        waiting[_moved_key(call, {})].append(call)
    for call in left:
        places = waiting[_moved_key(call, classes.renamed)]
        best = max(places, key=lambda place: _likeness(call, place, classes), default=None)
        if best is not None and _likeness(call, best, classes) >= _MOVED_LIKENESS:
            places.remove(best)
            yield CallPair(base=call, head=best)


def _pairing(
    base: RecordingIndex,
    head: RecordingIndex,
    pairs: Sequence[CallPair],
    classes: ClassMaps,
) -> CallPairing:
    of_base = {pair.base.call: pair for pair in pairs}
    of_head = {pair.head.call: pair for pair in pairs}
    removed = tuple(call for call in base.calls if call.call not in of_base)
    added = tuple(call for call in head.calls if call.call not in of_head)
    in_order = tuple(of_head[call.call] for call in head.calls if call.call in of_head)
    references = ReferenceMap.of(pairs, removed, added, by_first_use(classes.both, in_order))
    return CallPairing(
        base=base,
        head=head,
        pairs=in_order,
        removed=removed,
        added=added,
        moved=tuple(_moved(base, head, pairs)),
        references=references,
        classes=classes,
        owners=OwnerMap.of(base, head, references),
        by_base_call=of_base,
        by_head_call=of_head,
    )


def _moved(
    base: RecordingIndex, head: RecordingIndex, pairs: Sequence[CallPair]
) -> Iterator[CallPair]:
    for roles in _ROLES:
        ordered = [of for of in pairs if of.base.role in roles]
        ordered.sort(key=lambda pair: base.positions[pair.base.call])
        kept = longest_increasing([head.positions[pair.head.call] for pair in ordered])
        yield from (pair for index, pair in enumerate(ordered) if index not in kept)


def _uncross_pairs(pairing: CallPairing) -> list[CallPair]:
    """Pair equal calls of one callee with each other, where the order of calls says otherwise.

    Groups come in the order of the head, so that objects are matched before they are passed on. A
    call of another step, which may make another stack, is another one.
    """
    groups: dict[tuple[str, str], list[CallPair]] = defaultdict(list)
    pairs: list[CallPair] = []
    for pair in pairing.pairs:
        if pair.head.role == "operation":
            pairs.append(pair)
        else:
            groups[pair.head.callee, pair.head.step].append(pair)
    classes = by_first_use(pairing.classes.both, pairing.pairs)
    others = pairing.removed, pairing.added, classes
    for group in groups.values():
        made = [pair for pair in pairs if pair.head.role == "constructor"]
        references = ReferenceMap.of(made, *others)
        tangled = len(group) > 1 and any(_differs(pair, references) for pair in group)
        pairs += _crossed(group, references) if tangled else group
    return pairs


def _crossed(group: Sequence[CallPair], references: ReferenceMap) -> Iterator[CallPair]:
    heads = [pair.head for pair in group]
    left = []
    for pair in group:
        candidates = (CallPair(base=pair.base, head=new) for new in heads)
        equal = next((pair for pair in candidates if not _differs(pair, references)), None)
        if equal is None:
            left.append(pair.base)
        else:
            heads.remove(equal.head)
            yield equal
    yield from (CallPair(base=old, head=new) for old, new in zip(left, heads, strict=True))


def _differs(pair: CallPair, references: ReferenceMap) -> bool:
    old, new = argument_values(pair.base), argument_values(pair.head)
    unequal = (not same_value(value, new[name], references) for name, value in old.items())
    return old.keys() != new.keys() or any(unequal)


def _differing(pairing: CallPairing) -> set[str]:
    assembly = (pair for pair in pairing.pairs if pair.head.role != "operation")
    return {pair.base.call for pair in assembly if _differs(pair, pairing.references)}


def _renamed_callees(base: RecordingIndex, head: RecordingIndex) -> dict[str, str]:
    """Return callees of the base that have another name in the head.

    A callee was renamed when it is gone, and a callee that is new has the same role, is called
    equally often, has the same parameters and gets mostly the same values.
    """
    gone, new = _only_in(base, head), _only_in(head, base)
    scored = sorted(
        (
            (_similarity(calls, new[name], (base.trace.objects, head.trace.objects)), old, name)
            for old, calls in gone.items()
            for name in new
        ),
        reverse=True,
    )
    return _one_to_one((old, name) for score, old, name in scored if score > 0)


def _only_in(side: RecordingIndex, other: RecordingIndex) -> dict[str, list[Call]]:
    known = {call.callee for call in other.calls}
    calls: dict[str, list[Call]] = defaultdict(list)
    for call in side.calls:
        if call.callee not in known:
            calls[call.callee].append(call)
    return calls


def _similarity(
    old: Sequence[Call],
    new: Sequence[Call],
    classes: tuple[Mapping[str, str], Mapping[str, str]],
) -> float:
    """Return 0 for different callees, else more for more equal values and similar names."""
    if len(old) != len(new) or old[0].role != new[0].role:
        return 0.0
    if {item.name for item in old[0].arguments} != {item.name for item in new[0].arguments}:
        return 0.0
    equal = [flag for pair in zip(old, new, strict=True) for flag in _equal_values(*pair, classes)]
    share = sum(equal) / len(equal) if equal else 0.0
    resemblance = _resemblance(old[0].callee, new[0].callee)
    likely = share >= _SHARE_OF_EQUAL_VALUES or (not equal and resemblance >= _SIMILAR_NAMES)
    return 1.0 + share + resemblance if likely else 0.0


def _equal_values(
    old: Call, new: Call, classes: tuple[Mapping[str, str], Mapping[str, str]]
) -> Iterator[bool]:
    values = argument_values(new)
    for name, value in argument_values(old).items():
        yield name in values and (
            content_key(value, classes[0]) == content_key(values[name], classes[1])
        )


def _missing_arguments(call: Call, other: Call) -> list[Argument]:
    names = {item.name for item in other.arguments}
    bound = not any(of.raises and of.raises.type == "TypeError" for of in (call, other))
    return [item for item in call.arguments if bound and item.name not in names]


def _is_same_argument(old: Argument, new: Argument, pair: CallPair, pairing: CallPairing) -> bool:
    if old.given != new.given or not same_value(old.value, new.value, pairing.references):
        return False
    is_like = is_informative(old.value) or _resemblance(old.name, new.name) >= _SIMILAR_NAMES
    return is_like or pair.base.arguments.index(old) == pair.head.arguments.index(new)


def _one_to_one(names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Keep the first pair of each name."""
    renamed: dict[str, str] = {}
    for old, new in names:
        if old not in renamed and new not in renamed.values():
            renamed[old] = new
    return renamed


def _resemblance(old: str, new: str) -> float:
    return SequenceMatcher(None, old, new, autojunk=False).ratio()
