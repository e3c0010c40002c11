"""Blocks of memory to copy, and runs of rows.

Nothing here touches the memory itself: all functions are arithmetic on row numbers and addresses.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blocks:
    """Blocks to copy, in order; the three arrays are ``(block_num,) int64``.

    Attributes:
        src: address of each block's first byte where it is read.
        dst: address of its first byte where it is written.
        sizes: bytes of each block.
    """

    src: Integers
    dst: Integers
    sizes: Integers

    def reversed(self) -> "Blocks":
        """Return the same blocks, copied the other way."""
        return Blocks(src=self.dst, dst=self.src, sizes=self.sizes)


def joined(blocks: list[Blocks]) -> Blocks:
    """Return the blocks of several lists, one after the other."""
    if len(blocks) == 1:
        return blocks[0]
    src, dst, sizes = zip(*((one.src, one.dst, one.sizes) for one in blocks), strict=True)
    return Blocks(src=np.concatenate(src), dst=np.concatenate(dst), sizes=np.concatenate(sizes))


def row_runs(src_rows: Integers, dst_rows: Integers, *, touches: bool) -> tuple[Integers, Integers]:
    """Return the first position and the length of every run of rows that is one block.

    A run ends where the rows of either side do not follow each other. Where rows do not touch
    (``touches=False``) every row is a run of its own.
    """
    row_num = len(src_rows)
    if not touches:
        return np.arange(row_num), np.ones(row_num, dtype=np.int64)
    if row_num == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    # Slices, not np.diff: this is on the way to the first launch, and each call of numpy counts.
    ends = src_rows[1:] - src_rows[:-1] != 1
    if dst_rows is not src_rows:
        ends |= dst_rows[1:] - dst_rows[:-1] != 1
    (breaks,) = ends.nonzero()
    bounds = np.empty(len(breaks) + 2, dtype=np.int64)
    bounds[0], bounds[-1] = 0, row_num
    np.add(breaks, 1, out=bounds[1:-1])
    return bounds[:-1], bounds[1:] - bounds[:-1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowRuns:
    """Rows of one side, in runs in which they follow each other; arrays of int64.

    Attributes:
        rows: all rows, ``(row_num,)``.
        starts: position of the first row of every run, ``(run_num,)``.
        stops: position after its last row.
        ends: smallest and largest row.
        bounds: the starts, then the number of rows, ascending.
    """

    rows: Integers
    starts: Integers
    stops: Integers
    ends: tuple[int, int]
    bounds: list[int]

    @property
    def mean_length(self) -> float:
        """Rows of a run on the average; 0 where there are none."""
        return len(self.rows) / max(len(self.starts), 1)

    def piece(self, start: int, stop: int) -> tuple[Integers, Integers]:
        """Return the positions and the lengths of the runs within some rows."""
        first, last = bisect_right(self.bounds, start) - 1, bisect_left(self.bounds, stop)
        starts = np.maximum(self.starts[first:last], start)
        return starts, np.minimum(self.stops[first:last], stop) - starts

    def cut_before(self, start: int, stop: int) -> int:
        """Return the last end of a run in ``(start, stop]``; ``stop`` where there is none."""
        end = self.bounds[bisect_right(self.bounds, stop) - 1]
        return end if end > start else stop


def runs_of(rows: Integers) -> RowRuns:
    """Return rows in runs."""
    starts, lengths = row_runs(rows, rows, touches=True)
    return RowRuns(
        rows=rows,
        starts=starts,
        stops=starts + lengths,
        ends=ends_of(rows),
        bounds=[*starts.tolist(), len(rows)],
    )


def ends_of(rows: Integers) -> tuple[int, int]:
    """Return the smallest and the largest row; 0 and 0 where there are none."""
    return (int(rows.min()), int(rows.max())) if len(rows) else (0, 0)
