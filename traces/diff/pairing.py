"""Finds the same call on both sides, whoever made it.

Constructors and operations are one flat sequence, builders another. Parents play no part, so that
a moved builder, an extracted helper or a layer in between cannot disturb the constructors.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from traces.diff.align import AlignmentKeys, align, longest_increasing
from traces.diff.index import RecordingIndex, argument_values
from traces.diff.values import CallPair, ReferenceMap, content_key, same_value
from traces.schema.model import Call

_ROLES = ({"constructor", "operation"}, {"builder"})
_MOVED_LIKENESS = 1.5
"""A call that changed its place is still the same call when half of its arguments are equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPairing:
    """The calls of two sides, paired.

    Attributes:
        pairs: in the order of the head.
        removed: calls of the base without partner, in order.
        added: calls of the head without partner, in order.
        moved: the pairs whose order differs from that of the others.
        of_base: base label to its pair.
        of_head: head label to its pair.
    """

    pairs: tuple[CallPair, ...]
    removed: tuple[Call, ...]
    added: tuple[Call, ...]
    moved: tuple[CallPair, ...]
    references: ReferenceMap
    by_base_call: dict[str, CallPair]
    by_head_call: dict[str, CallPair]


def pair_calls(
    base: RecordingIndex, head: RecordingIndex, renamed: Mapping[str, str]
) -> CallPairing:
    """Pair the calls of two sides; ``renamed`` leads from callees of the base to the head's.

    Equal calls in another order are paired crosswise only if that settles differences and makes
    no new one: else it was the values that were swapped.
    """
    pairs = [pair for roles in _ROLES for pair in _paired(base, head, roles, renamed)]
    plain = _pairing(base, head, pairs, renamed)
    untangled = _uncross_pairs(plain)
    if _same_order(untangled, plain):
        return plain
    other = _pairing(base, head, untangled, renamed)
    return other if _differing(other) < _differing(plain) else plain


def likeness(base: Call, head: Call, renamed: Mapping[str, str]) -> float:
    """Return 1 to 2.5 for two calls of the same callee, by equal arguments and equal caller."""
    old, new = argument_values(base), argument_values(head)
    names = old.keys() | new.keys()
    equal = sum(
        name in old
        and name in new
        and content_key(old[name], renamed) == content_key(new[name], renamed)
        for name in names
    )
    share = equal / len(names) if names else 1.0
    return 1.0 + share + 0.5 * (base.parent.partition("#")[0] == head.parent.partition("#")[0])


def _paired(
    base: RecordingIndex, head: RecordingIndex, roles: set[str], renamed: Mapping[str, str]
) -> Iterator[CallPair]:
    old = [call for call in base.calls if call.role in roles]
    new = [call for call in head.calls if call.role in roles]
    alignment = align(
        _keys(old, renamed), _keys(new, {}), likeness=lambda i, j: likeness(old[i], new[j], renamed)
    )
    yield from (CallPair(base=old[i], head=new[j]) for i, j in alignment.pairs)
    left = [old[i] for hunk in alignment.hunks for i in hunk.base]
    over = [new[j] for hunk in alignment.hunks for j in hunk.head]
    yield from _pair_leftovers(left, over, renamed)


def _keys(calls: Sequence[Call], renamed: Mapping[str, str]) -> AlignmentKeys:
    loose = [_loose_key(call, renamed) for call in calls]
    values = [[[item.name, item.value, item.given] for item in call.arguments] for call in calls]
    exact = [(key, content_key(value, renamed)) for key, value in zip(loose, values, strict=True)]
    return AlignmentKeys(exact=exact, loose=loose)


def _loose_key(call: Call, renamed: Mapping[str, str]) -> Hashable:
    callee = renamed.get(call.callee, call.callee)
    return callee if call.role == "builder" else (callee, call.step)


def _pair_leftovers(
    left: Iterable[Call], over: Sequence[Call], renamed: Mapping[str, str]
) -> Iterator[CallPair]:
    """Pair calls that were lost in one place and appear in another: they moved."""
    waiting: dict[Hashable, list[Call]] = defaultdict(list)
    for call in over:
        waiting[_loose_key(call, {})].append(call)
    for call in left:
        places = waiting[_loose_key(call, renamed)]
        best = max(places, key=lambda place: likeness(call, place, renamed), default=None)
        if best is not None and likeness(call, best, renamed) >= _MOVED_LIKENESS:
            places.remove(best)
            yield CallPair(base=call, head=best)


def _pairing(
    base: RecordingIndex,
    head: RecordingIndex,
    pairs: Sequence[CallPair],
    renamed: Mapping[str, str],
) -> CallPairing:
    of_base = {pair.base.call: pair for pair in pairs}
    of_head = {pair.head.call: pair for pair in pairs}
    removed = tuple(call for call in base.calls if call.call not in of_base)
    added = tuple(call for call in head.calls if call.call not in of_head)
    return CallPairing(
        pairs=tuple(of_head[call.call] for call in head.calls if call.call in of_head),
        removed=removed,
        added=added,
        moved=tuple(_moved(base, head, pairs)),
        references=ReferenceMap.of(pairs, removed, added, renamed),
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

    Groups come in the order of the head, so that objects are matched before they are passed on.
    """
    groups: dict[str, list[CallPair]] = defaultdict(list)
    pairs: list[CallPair] = []
    for pair in pairing.pairs:
        if pair.head.role == "operation":
            pairs.append(pair)
        else:
            groups[pair.head.callee].append(pair)
    for group in groups.values():
        references = _references(pairing, pairs)
        tangled = len(group) > 1 and any(_differs(pair, references) for pair in group)
        pairs += _crossed(group, references) if tangled else group
    return pairs


def _references(pairing: CallPairing, pairs: Iterable[CallPair]) -> ReferenceMap:
    constructed = [pair for pair in pairs if pair.head.role == "constructor"]
    return ReferenceMap.of(constructed, pairing.removed, pairing.added, pairing.references.renamed)


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
    return old.keys() != new.keys() or not all(
        same_value(value, new[name], references) for name, value in old.items()
    )


def _differing(pairing: CallPairing) -> set[str]:
    assembly = (pair for pair in pairing.pairs if pair.head.role != "operation")
    return {pair.base.call for pair in assembly if _differs(pair, pairing.references)}


def _same_order(pairs: Sequence[CallPair], pairing: CallPairing) -> bool:
    return all(pairing.by_base_call[pair.base.call].head is pair.head for pair in pairs)
