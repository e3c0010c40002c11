"""The ``direct`` backend on a GPU: copy engines move all runs of rows of an operation."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import ClassVar

import numpy as np
import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.transfer.blocks import Blocks, join_blocks, row_runs
from assembler.transfer.direct import DirectRowMover, check_inside
from assembler.transfer.mover import RowCopy
from assembler.transfer.windows import RowWindow


class CudaDirectRowMover(DirectRowMover):
    """Copies of one operation as batches of blocks, without a launch for each run of rows.

    Memory that is not page-locked, and the default stream, are left to torch's copies: the driver
    takes neither in a batch.

    Args:
        copy_blocks: copies blocks on a stream, see
            :class:`~assembler.transfer.cuda.batch.BatchedCopy`.
    """

    gathers: ClassVar[bool] = True

    def __init__(self, copy_blocks: Callable[..., None]) -> None:
        self._copy_blocks = copy_blocks

    @override
    def run(self, accelerator: Device, copies: Sequence[RowCopy]) -> None:
        stream = int(torch.cuda.current_stream(accelerator.torch_device).cuda_stream)
        for is_batched, some in groupby(copies, key=lambda copy: bool(stream) and _fits(copy)):
            if is_batched:
                self._copy_blocks(blocks_of(some), stream=stream)
            else:
                super().run(accelerator, tuple(some))


def blocks_of(copies: Iterable[RowCopy]) -> Blocks:
    """Return the blocks of memory that copies move, as few as there can be in this order.

    Raises:
        TransferError: slots that are not whole rows, or rows outside of their buffer.
    """
    found = []
    for _, some in groupby(copies, key=_group_key):
        of_group = tuple(some)
        first = of_group[0]
        first.slots.check()
        src_rows, dst_rows = first.src_rows(), first.dst_rows()
        check_inside(first.src, src_rows)
        check_inside(first.dst, dst_rows)
        found.append(_group_blocks(of_group, src_rows.numpy(), dst_rows.numpy()))
    return join_blocks(
        Blocks(
            src=np.concatenate([blocks.src for blocks in found]),
            dst=np.concatenate([blocks.dst for blocks in found]),
            sizes=np.concatenate([blocks.sizes for blocks in found]),
        )
    )


def _group_blocks(
    copies: Sequence[RowCopy],
    src_rows: np.ndarray[tuple[int], np.dtype[np.int64]],
    dst_rows: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> Blocks:
    """Return the blocks of copies that move the same rows with the same strides."""
    src, dst = copies[0].src, copies[0].dst
    starts, lengths = row_runs(src_rows, dst_rows, touches=_is_dense(src) and _is_dense(dst))
    src_offsets, dst_offsets = src_rows[starts] * _stride(src), dst_rows[starts] * _stride(dst)
    src_bases = np.array([copy.src.tensor.data_ptr() for copy in copies], dtype=np.int64)
    dst_bases = np.array([copy.dst.tensor.data_ptr() for copy in copies], dtype=np.int64)
    return Blocks(
        src=(src_bases[:, None] + src_offsets).reshape(-1),
        dst=(dst_bases[:, None] + dst_offsets).reshape(-1),
        sizes=np.tile(lengths * _row_bytes(src), len(copies)),
    )


def _group_key(copy: RowCopy) -> tuple[object, ...]:
    slots, src, dst = copy.slots, copy.src, copy.dst
    indices = (id(slots.host_indices), id(slots.device_indices), slots.row_map)
    shapes = (src.tensor.shape, dst.tensor.shape)
    return (*indices, *shapes, _stride(src), _stride(dst), src.tensor.dtype)


def _fits(copy: RowCopy) -> bool:
    """Return whether rows of both sides are equal blocks that the driver can copy in a batch."""
    src, dst = copy.src.tensor, copy.dst.tensor
    is_alike = src.dtype == dst.dtype and src.shape[1:] == dst.shape[1:]
    return is_alike and all(
        (tensor.is_cuda or tensor.is_pinned()) and tensor[:1].is_contiguous()
        for tensor in (src, dst)
    )


def _is_dense(window: RowWindow) -> bool:
    return _stride(window) == _row_bytes(window)


def _stride(window: RowWindow) -> int:
    return window.tensor.stride(0) * window.tensor.element_size()


def _row_bytes(window: RowWindow) -> int:
    return math.prod(window.tensor.shape[1:]) * window.tensor.element_size()
