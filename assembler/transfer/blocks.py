"""Blocks of memory to copy: runs of rows, and neighbouring blocks made into one.

Nothing here touches the memory itself: all functions are arithmetic on row numbers and addresses.
"""

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
    breaks = np.flatnonzero((np.diff(src_rows) != 1) | (np.diff(dst_rows) != 1)) + 1
    starts = np.concatenate((np.zeros(1, dtype=np.int64), breaks))
    return starts, np.diff(starts, append=row_num)


def join_blocks(blocks: Blocks) -> Blocks:
    """Make one block of neighbours in the list that touch on both sides."""
    if len(blocks.sizes) == 0:
        return blocks
    src_gaps = blocks.src[1:] != blocks.src[:-1] + blocks.sizes[:-1]
    dst_gaps = blocks.dst[1:] != blocks.dst[:-1] + blocks.sizes[:-1]
    breaks = np.flatnonzero(src_gaps | dst_gaps) + 1
    starts = np.concatenate((np.zeros(1, dtype=np.int64), breaks))
    return Blocks(
        src=blocks.src[starts],
        dst=blocks.dst[starts],
        sizes=np.add.reduceat(blocks.sizes, starts),
    )
