"""Alignment of two sequences of records in linear time, so that one lost record is one hunk.

Records have two keys. Equal *exact* keys: nothing differs. Equal *loose* keys: the same thing, and
its details may differ. Only records with equal loose keys are ever paired.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

from patiencediff import PatienceSequenceMatcher

_EXHAUSTIVE_CELLS = 2500
"""Up to this many cells a gap is solved exactly; above, by anchors only."""

Likeness = Callable[[int, int], float]
"""Score above 0 of base record i and head record j, which have equal loose keys."""

_Pairs = list[tuple[int, int]]
_Numbers = Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunk:
    """Neighbouring records without partner: base indices and head indices, never both empty."""

    base: range
    head: range


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Index pairs, increasing on both sides, and the hunks between them, in order."""

    pairs: tuple[tuple[int, int], ...]
    hunks: tuple[Hunk, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentKeys:
    """The keys of one sequence, one exact and one loose key a record."""

    exact: Sequence[Hashable]
    loose: Sequence[Hashable]


def align(base: AlignmentKeys, head: AlignmentKeys, *, likeness: Likeness) -> Alignment:
    """Pair the records of two sequences without crossing.

    Equal exact keys anchor the alignment, then unique loose keys, then the ordinal of each loose
    key. A gap with the same loose keys on both sides is paired one to one; a small one is solved
    for the greatest total likeness.
    """
    aligner = _Aligner(base, head, likeness)
    whole = Hunk(base=range(len(base.exact)), head=range(len(head.exact)))
    pairs = sorted(aligner.fill(whole, _PASSES))
    return Alignment(pairs=tuple(pairs), hunks=tuple(_gaps(pairs, whole)))


def longest_increasing(numbers: Sequence[int]) -> set[int]:
    """Return the indices of one longest strictly increasing subsequence."""
    tails: list[int] = []
    values: list[int] = []
    previous: list[int] = []
    for index, number in enumerate(numbers):
        place = bisect_left(values, number)
        previous.append(tails[place - 1] if place else -1)
        tails[place : place + 1] = [index]
        values[place : place + 1] = [number]
    chosen: set[int] = set()
    index = tails[-1] if tails else -1
    while index >= 0:
        chosen.add(index)
        index = previous[index]
    return chosen


class _Aligner:
    """An alignment in progress; it works on numbers, equal for equal keys."""

    def __init__(self, base: AlignmentKeys, head: AlignmentKeys, likeness: Likeness) -> None:
        self._exact = _numbered(base.exact, head.exact)
        self._loose = _numbered(base.loose, head.loose)
        self._likeness = likeness

    def exact(self, gap: Hunk) -> tuple[_Numbers, _Numbers]:
        return _within(self._exact, gap)

    def loose(self, gap: Hunk) -> tuple[_Numbers, _Numbers]:
        return _within(self._loose, gap)

    def ordinal(self, gap: Hunk) -> tuple[_Numbers, _Numbers]:
        base, head = _within(self._loose, gap)
        return _numbered(list(_with_ordinals(base)), list(_with_ordinals(head)))

    def fill(self, gap: Hunk, passes: Sequence["_Pass"]) -> _Pairs:
        if not gap.base or not gap.head or not passes:
            return []
        base, head = self.loose(gap)
        if base == head:
            return list(zip(gap.base, gap.head, strict=True))
        ends, inner = _trimmed(gap, *passes[0](self, gap))
        if len(inner.base) * len(inner.head) <= _EXHAUSTIVE_CELLS:
            return ends + self._best(inner)
        anchors = _anchors(inner, *passes[0](self, inner))
        for rest in _gaps(anchors, inner):
            ends += self.fill(rest, passes[1:])
        return ends + anchors

    def _best(self, gap: Hunk) -> _Pairs:
        """Return the pairs with the greatest total likeness, from a table filled from its end."""
        base, head = self.loose(gap)
        rows, columns = len(base), len(head)
        best = [[0.0] * (columns + 1) for _ in range(rows + 1)]
        fit = [[0.0] * columns for _ in range(rows)]
        for i in reversed(range(rows)):
            for j in reversed(range(columns)):
                if base[i] == head[j]:
                    fit[i][j] = self._likeness(gap.base[i], gap.head[j]) + best[i + 1][j + 1]
                best[i][j] = max(fit[i][j], best[i + 1][j], best[i][j + 1])
        return [(gap.base[i], gap.head[j]) for i, j in _traced(best, fit)]


_Pass = Callable[[_Aligner, Hunk], tuple[_Numbers, _Numbers]]
_PASSES: tuple[_Pass, ...] = (_Aligner.exact, _Aligner.loose, _Aligner.ordinal, _Aligner.loose)


def _traced(best: list[list[float]], fit: list[list[float]]) -> Iterator[tuple[int, int]]:
    i = j = 0
    while i < len(fit) and j < len(fit[i]):
        if fit[i][j] == best[i][j] > 0:
            yield i, j
            i, j = i + 1, j + 1
        elif best[i + 1][j] == best[i][j]:
            i += 1
        else:
            j += 1


def _numbered(base: Sequence[Hashable], head: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    numbers: dict[Hashable, int] = {}
    return (
        [numbers.setdefault(key, len(numbers)) for key in base],
        [numbers.setdefault(key, len(numbers)) for key in head],
    )


def _within(keys: tuple[list[int], list[int]], gap: Hunk) -> tuple[_Numbers, _Numbers]:
    base, head = keys
    return base[gap.base.start : gap.base.stop], head[gap.head.start : gap.head.stop]


def _with_ordinals(keys: Iterable[int]) -> Iterator[tuple[int, int]]:
    counts: Counter[int] = Counter()
    for key in keys:
        yield key, counts[key]
        counts[key] += 1


def _trimmed(gap: Hunk, base: _Numbers, head: _Numbers) -> tuple[_Pairs, Hunk]:
    """Pair the equal beginning and the equal end; return those pairs and the gap between."""
    first = _equal_run(base, head)
    last = _equal_run(reversed(base[first:]), reversed(head[first:]))
    inner = Hunk(base=gap.base[first : len(base) - last], head=gap.head[first : len(head) - last])
    pairs = [
        *zip(gap.base[:first], gap.head[:first], strict=True),
        *zip(gap.base[len(base) - last :], gap.head[len(head) - last :], strict=True),
    ]
    return pairs, inner


def _equal_run(base: Iterable[int], head: Iterable[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(base, head, strict=False)))


def _anchors(gap: Hunk, base: _Numbers, head: _Numbers) -> _Pairs:
    try:
        blocks = PatienceSequenceMatcher(None, list(base), list(head)).get_matching_blocks()
    except BaseException as error:
        # The library recurses ten times, and ends by a panic of its Rust code where that is too
        # little. Its class is no Exception, and has no name that could be imported.
        if type(error).__name__ != "PanicException":
            raise
        return _unique_anchors(gap, base, head)
    return [
        (gap.base[i + step], gap.head[j + step]) for i, j, size in blocks for step in range(size)
    ]


def _unique_anchors(gap: Hunk, base: _Numbers, head: _Numbers) -> _Pairs:
    """Pair what occurs once on either side, as far as it comes in the same order."""
    once = [{one for one, count in Counter(side).items() if count == 1} for side in (base, head)]
    places = {one: place for place, one in enumerate(head)}
    both = once[0] & once[1]
    common = [place for place, one in enumerate(base) if one in both]
    kept = longest_increasing([places[base[place]] for place in common])
    return [
        (gap.base[place], gap.head[places[base[place]]])
        for index, place in enumerate(common)
        if index in kept
    ]


def _gaps(pairs: _Pairs, whole: Hunk) -> Iterator[Hunk]:
    """Yield the gaps between the pairs, in order; a gap is never empty on both sides."""
    before = (whole.base.start - 1, whole.head.start - 1)
    after = (whole.base.stop, whole.head.stop)
    for (i, j), (next_i, next_j) in pairwise([before, *pairs, after]):
        if next_i - i > 1 or next_j - j > 1:
            yield Hunk(base=range(i + 1, next_i), head=range(j + 1, next_j))
