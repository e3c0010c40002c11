"""Place of a lost or new record among equal neighbours: where the lines of the others fit best.

Of a row of equal records an alignment cannot tell which one is missing. The lines that they come
from can: those of the others have hardly moved.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from traces.diff.align import Alignment, Hunk
from traces.schema.model import Location

Lines = Callable[[int], Location | None]
"""Returns the line that a record comes from; None for none."""

_OTHER_FILE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedSide:
    """One of two aligned sequences, and the lines of its records."""

    records: Sequence[Hashable]
    line: Lines


def slide_hunks(alignment: Alignment, base: AlignedSide, head: AlignedSide) -> Alignment:
    """Move each hunk of one side among records that equal its own, and pair the others anew."""
    pairs = dict(alignment.pairs)
    hunks = []
    for hunk in alignment.hunks:
        if not hunk.head:
            moved, own = _slid(_Gap(hunk.base, hunk.head.start), pairs, (base, head))
            pairs = own
            hunks.append(Hunk(base=moved.own, head=range(moved.other, moved.other)))
        elif not hunk.base:
            turned = {j: i for i, j in pairs.items()}
            moved, own = _slid(_Gap(hunk.head, hunk.base.start), turned, (head, base))
            pairs = {i: j for j, i in own.items()}
            hunks.append(Hunk(base=range(moved.other, moved.other), head=moved.own))
        else:
            hunks.append(hunk)
    return Alignment(pairs=tuple(sorted(pairs.items())), hunks=tuple(hunks))


@dataclass(frozen=True, slots=True)
class _Gap:
    own: range
    # Place on the other side at which the records are missing.
    other: int


def _slid(
    gap: _Gap, pairs: dict[int, int], sides: tuple[AlignedSide, AlignedSide]
) -> tuple[_Gap, dict[int, int]]:
    """Return a gap where the lines of the paired records fit best, and the pairs around it."""
    best, steps = 0, list[tuple[int, int]]()
    gained = 0
    for direction in (-1, 1):
        swaps = list(_swaps(gap, pairs, sides[0].records, direction))
        gains = accumulate(
            _distance(sides, old, other) - _distance(sides, new, other) for old, new, other in swaps
        )
        for count, gain in enumerate(gains, start=1):
            if gain > gained:
                best, gained = direction * count, gain
                steps = [(new, other) for _, new, other in swaps[:count]]
    if not best:
        return gap, pairs
    own = range(gap.own.start + best, gap.own.stop + best)
    kept = {i: j for i, j in pairs.items() if i not in own}
    return _Gap(own, gap.other + best), kept | dict(steps)


def _swaps(
    gap: _Gap, pairs: dict[int, int], records: Sequence[Hashable], direction: int
) -> Iterator[tuple[int, int, int]]:
    """Yield, as a gap moves, each record that leaves its partner, the one that takes it, and it."""
    size = len(gap.own)
    old, other = (gap.own.start - 1, gap.other - 1) if direction < 0 else (gap.own.stop, gap.other)
    new = old + size if direction < 0 else old - size
    while pairs.get(old) == other and records[old] == records[new]:
        yield old, new, other
        old, new, other = old + direction, new + direction, other + direction


def _distance(sides: tuple[AlignedSide, AlignedSide], own: int, other: int) -> int:
    first, second = sides[0].line(own), sides[1].line(other)
    if first is None or second is None:
        return 0
    return abs(first.line - second.line) if first.file == second.file else _OTHER_FILE
