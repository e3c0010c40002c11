"""Slices between different numbers of ranks: what every receiving rank gets, item by item.

A rank of ``n`` holds the ``n``-th part of each group of heads or channels; where there are more
ranks than items, neighbouring ranks hold the same one. A function that slices answers, for one
sending and one receiving rank, from where and to where items go.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from traces.schema.pools import RankSlices
from traces.schema.slot_ranges import sorted_slot_ranges

RankPair: TypeAlias = tuple[int, int]
SliceBlock: TypeAlias = tuple[int, int, int]
"""First item on the sending rank, first item on the receiving one, number of items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlicedItems:
    """The items that ranks share out among themselves.

    Attributes:
        groups: numbers of items, in order; each group is divided by itself.
        width: numbers that a slice counts for one item: its bytes, or 1.
    """

    groups: tuple[int, ...]
    width: int = 1

    def held_by(self, rank: int, size: int) -> list[int]:
        """Return what one of ``size`` ranks holds, in its order, numbered over all ranks."""
        held: list[int] = []
        start = 0
        for number in self.groups:
            part = max(1, number // size)
            first = start + (rank * part if number >= size else rank * number // size)
            held += range(first * self.width, (first + part) * self.width)
            start += number
        return held


def read_blocks(answer: object) -> tuple[SliceBlock, ...] | None:
    """Return the blocks that a function answers; None where it answers something else.

    It answers a list of blocks, or where they begin and how many items there are, for both ranks.
    """
    if not isinstance(answer, list | tuple):
        return None
    if len(answer) == 4 and all(map(_is_number, answer)):
        source, sent, target, taken = answer
        return ((source, target, min(sent, taken)),)
    blocks = [tuple(block) for block in answer if isinstance(block, list | tuple)]
    if len(blocks) != len(answer) or any(len(block) != 3 for block in blocks):
        return None
    if not all(_is_number(number) for block in blocks for number in block):
        return None
    return tuple((source, target, number) for source, target, number in blocks)


def rank_slices(
    items: SlicedItems,
    sizes: Sequence[RankPair],
    blocks: Mapping[tuple[RankPair, RankPair], Sequence[SliceBlock]],
) -> Iterator[RankSlices]:
    """Yield what the receiving ranks get, for every pair of numbers of ranks.

    Args:
        items: that are shared out.
        sizes: numbers of sending and receiving ranks.
        blocks: that go from one rank to another, by the two sizes and the two ranks.
    """
    for size in sizes:
        sources, targets = size
        missing = wrong = 0
        unlike = []
        for target in range(targets):
            wanted = items.held_by(target, targets)
            got: dict[int, set[int | None]] = {}
            for source in _senders(target, size):
                held = dict(enumerate(items.held_by(source, sources)))
                for place, item in _sent(blocks[size, (source, target)], held):
                    got.setdefault(place, set()).add(item)
            lost = sum(place not in got for place in range(len(wanted)))
            false = _false_places(got, dict(enumerate(wanted)))
            missing, wrong = missing + lost, wrong + false
            if lost or false:
                unlike.append(target)
        yield RankSlices(
            sources=sources,
            targets=targets,
            items=len(items.held_by(0, targets)),
            missing=missing,
            wrong=wrong,
            ranks=sorted_slot_ranges(unlike),
        )


def _senders(target: int, size: RankPair) -> Sequence[int]:
    """Return the ranks that send to one: those that hold what it holds."""
    sources, targets = size
    if sources <= targets:
        return (target // (targets // sources),)
    share = sources // targets
    return range(target * share, (target + 1) * share)


def _sent(
    blocks: Sequence[SliceBlock], held: Mapping[int, int]
) -> Iterator[tuple[int, int | None]]:
    """Yield the place and the item of everything that blocks send; None beyond the rank's own."""
    for first, place, number in blocks:
        for i in range(number):
            yield place + i, held.get(first + i)


def _false_places(got: Mapping[int, set[int | None]], wanted: Mapping[int, int]) -> int:
    """Return the number of places that get another item than they should, or lie outside."""
    return sum(place not in wanted or items != {wanted[place]} for place, items in got.items())


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
