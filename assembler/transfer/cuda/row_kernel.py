"""A Triton kernel that copies rows of several windows in one launch.

Device memory and mapped host memory look alike to it. Its threads go through bytes in the order
in which they lie in the host pool, so that stores over PCIe fill whole lines at any width of row.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

# Every module of the package can be imported; this one does nothing where there is no Triton.
with suppress(ImportError):
    import triton
    import triton.language as tl

WORD_BYTES = 8
_LANES = 4096
_WARP_NUM = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyShape:
    """Numbers of a copy that are the same for all of its windows; pairs are (read, written).

    Attributes:
        strides: bytes from one row to the next.
        row_nums: rows that each window has.
        row_bytes: bytes of a row.
        vector_bytes: bytes that a thread moves at once, 8 or 16; all addresses, strides and widths
            are multiples of it.
        windows_inside: whether the windows of a row follow each other in host memory; otherwise the
            rows of a window do.
    """

    strides: tuple[int, int]
    row_nums: tuple[int, int]
    row_bytes: int
    vector_bytes: int
    windows_inside: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CopyPlan:
    """A copy as the kernel reads it.

    Attributes:
        shape: numbers that are the same for all windows.
        window_num: windows.
        table: eight numbers, then the addresses of row 0 of every window, read and written; int64
            in device memory.
    """

    shape: CopyShape
    window_num: int
    table: torch.Tensor


def make_plan(
    shape: CopyShape, addresses: tuple[tuple[int, int], ...], report: torch.Tensor
) -> CopyPlan:
    """Return a plan for windows with these addresses of row 0; the host waits for its upload.

    ``report`` is ``(1,) int64``, of the device and written by it: what
    :class:`~assembler.device.row_report.RowReport` reads. A row outside of its window is reported
    there and not moved.
    """
    header = (
        *(len(addresses), *shape.strides, *shape.row_nums),
        *(shape.row_bytes // shape.vector_bytes, int(shape.windows_inside), report.data_ptr()),
    )
    words = [*header, *(address for pair in addresses for address in pair)]
    table = torch.tensor(words, dtype=torch.int64).to(report.device)
    return CopyPlan(shape=shape, window_num=len(addresses), table=table)


def launch_copy(
    plan: CopyPlan, *, src_rows: torch.Tensor, dst_rows: torch.Tensor, programs: int
) -> None:
    """Copy row ``src_rows[i]`` to row ``dst_rows[i]`` in every window, on the current stream.

    Args:
        plan: windows, strides and widths.
        src_rows: ``(pair_num,) int64``, contiguous, in device memory.
        dst_rows: likewise; rows that are written are distinct.
        programs: thread blocks at most, each on a multiprocessor of its own.
    """
    pair_num = src_rows.numel()
    vector_num = plan.shape.row_bytes // plan.shape.vector_bytes
    needed = -(-pair_num * plan.window_num * vector_num // _LANES)
    if needed == 0:
        return
    _kernel()[(min(programs, needed),)](
        plan.table,
        src_rows,
        dst_rows,
        pair_num,
        words=plan.shape.vector_bytes // WORD_BYTES,
        lanes=_LANES,
        num_warps=_WARP_NUM,
    )


@cache
def _kernel() -> Any:  # noqa: ANN401 - Triton has no types
    # Numbers and alignments that differ between calls must not compile the kernel again.
    return triton.jit(
        _copy_rows,
        do_not_specialize=["pair_num"],
        do_not_specialize_on_alignment=["table", "src_rows", "dst_rows"],
    )


def _copy_rows(
    table: tl.tensor,
    src_rows: tl.tensor,
    dst_rows: tl.tensor,
    pair_num: tl.tensor,
    words: tl.constexpr,
    lanes: tl.constexpr,
) -> None:
    """Copy rows; ``words`` of eight bytes make a vector, a program moves ``lanes`` at once."""
    window_num = tl.load(table)
    src_stride = tl.load(table + 1)
    dst_stride = tl.load(table + 2)
    src_row_num = tl.load(table + 3)
    dst_row_num = tl.load(table + 4)
    row_vectors = tl.load(table + 5)
    windows_inside = tl.load(table + 6) != 0
    report = tl.load(table + 7).to(tl.pointer_type(tl.int64), bitcast=True)
    # One of the two numbers runs fast and the other slowly.
    pair_step = tl.where(windows_inside, window_num, 1)
    window_step = tl.where(windows_inside, 1, pair_num)
    total = window_num * pair_num * row_vectors
    lane = tl.arange(0, lanes)
    word = tl.arange(0, words)
    step = tl.num_programs(0).to(tl.int64) * lanes
    for start in tl.range(tl.program_id(0).to(tl.int64) * lanes, total, step):
        vector = start + lane
        is_wanted = vector < total
        line = vector // row_vectors
        offset = (vector - line * row_vectors) * (words * 8)
        pair = (line // pair_step) % pair_num
        window = (line // window_step) % window_num
        src_row = tl.load(src_rows + pair, mask=is_wanted, other=0)
        dst_row = tl.load(dst_rows + pair, mask=is_wanted, other=0)
        src_outside = (src_row < 0) | (src_row >= src_row_num)
        is_outside = is_wanted & (src_outside | (dst_row < 0) | (dst_row >= dst_row_num))
        row = tl.where(src_outside, src_row, dst_row)
        row = tl.minimum(tl.maximum(row, -2147483648), 2147483647)
        row_num = tl.where(src_outside, src_row_num, dst_row_num)
        # Row and number are one word, so that they cannot be of different lanes.
        tl.store(report + lane * 0, (row_num << 32) + (row + 2147483648), mask=is_outside)
        is_moved = is_wanted & (is_outside == 0)
        addresses = table + 8 + 2 * window
        src = tl.load(addresses, mask=is_moved, other=0) + src_row * src_stride + offset
        dst = tl.load(addresses + 1, mask=is_moved, other=0) + dst_row * dst_stride + offset
        src_words = src[:, None].to(tl.pointer_type(tl.int64), bitcast=True) + word[None, :]
        dst_words = dst[:, None].to(tl.pointer_type(tl.int64), bitcast=True) + word[None, :]
        # Triton cannot see that vectors are aligned; then it would move one word at a time.
        src_words = tl.max_contiguous(tl.multiple_of(src_words, [1, words * 8]), [1, words])
        dst_words = tl.max_contiguous(tl.multiple_of(dst_words, [1, words * 8]), [1, words])
        moved = tl.load(src_words, mask=is_moved[:, None], eviction_policy="evict_first")
        tl.store(dst_words, moved, mask=is_moved[:, None])
