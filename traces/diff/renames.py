"""Recognises a new name for an old thing, so that it is one difference and not many."""

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from traces.diff.index import RecordingIndex
from traces.diff.pairing import CallPairing
from traces.diff.values import CallPair, content_key, is_informative, same_value
from traces.schema.model import Argument, Call

_SHARE_OF_EQUAL_VALUES = 0.5
_SIMILAR_NAMES = 0.5


def renamed_callees(base: RecordingIndex, head: RecordingIndex) -> dict[str, str]:
    """Return callees of the base that have another name in the head.

    A callee was renamed when it is gone, and a callee that is new has the same role, is called
    equally often, has the same parameters and gets mostly the same values.
    """
    gone, new = _only_in(base, head), _only_in(head, base)
    scored = sorted(
        ((_similarity(calls, new[name]), old, name) for old, calls in gone.items() for name in new),
        reverse=True,
    )
    renamed: dict[str, str] = {}
    for score, old, name in scored:
        if score > 0 and old not in renamed and name not in renamed.values():
            renamed[old] = name
    return renamed


def renamed_parameters(pairing: CallPairing) -> dict[str, str]:
    """Return parameters of the base that have another name in the head, over all callees."""
    votes: dict[tuple[str, str], bool] = {}
    for pair in pairing.pairs:
        gone, new = (
            _missing_arguments(pair.base, pair.head),
            _missing_arguments(pair.head, pair.base),
        )
        for old in gone:
            for name in new:
                vote = _carried_over(old, name, pair, pairing)
                votes[old.name, name.name] = vote and votes.get((old.name, name.name), True)
    return _unambiguous([names for names, agreed in votes.items() if agreed])


def _only_in(side: RecordingIndex, other: RecordingIndex) -> dict[str, list[Call]]:
    known = {call.callee for call in other.calls}
    calls: dict[str, list[Call]] = {}
    for call in side.calls:
        if call.callee not in known:
            calls.setdefault(call.callee, []).append(call)
    return calls


def _similarity(old: Sequence[Call], new: Sequence[Call]) -> float:
    """Return 0 for different callees, else more for more equal values and similar names."""
    if len(old) != len(new) or old[0].role != new[0].role:
        return 0.0
    if {item.name for item in old[0].arguments} != {item.name for item in new[0].arguments}:
        return 0.0
    equal = [flag for pair in zip(old, new, strict=True) for flag in _equal_values(*pair)]
    share = sum(equal) / len(equal) if equal else 0.0
    resemblance = _resemblance(old[0].callee, new[0].callee)
    likely = share >= _SHARE_OF_EQUAL_VALUES or (not equal and resemblance >= _SIMILAR_NAMES)
    return 1.0 + share + resemblance if likely else 0.0


def _equal_values(old: Call, new: Call) -> Iterator[bool]:
    values = {item.name: item.value for item in new.arguments}
    for item in old.arguments:
        yield item.name in values and content_key(item.value, {}) == content_key(
            values[item.name], {}
        )


def _missing_arguments(call: Call, other: Call) -> list[Argument]:
    names = {item.name for item in other.arguments}
    bound = not any(of.raises and of.raises.type == "TypeError" for of in (call, other))
    return [item for item in call.arguments if bound and item.name not in names]


def _carried_over(old: Argument, new: Argument, pair: CallPair, pairing: CallPairing) -> bool:
    if old.given != new.given or not same_value(old.value, new.value, pairing.references):
        return False
    if is_informative(old.value) or _resemblance(old.name, new.name) >= _SIMILAR_NAMES:
        return True
    return _index(old, pair.base) == _index(new, pair.head)


def _index(argument: Argument, call: Call) -> int:
    return call.arguments.index(argument)


def _unambiguous(names: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Keep the most similar names first, each name once."""
    renamed: dict[str, str] = {}
    for old, new in sorted(names, key=lambda pair: -_resemblance(*pair)):
        if old not in renamed and new not in renamed.values():
            renamed[old] = new
    return renamed


def _resemblance(old: str, new: str) -> float:
    return SequenceMatcher(None, old, new, autojunk=False).ratio()
