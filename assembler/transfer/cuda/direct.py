"""The ``direct`` backend on a GPU: copy engines move all runs of rows of an operation."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from typing_extensions import override

from assembler.device.access import MemoryAccess
from assembler.device.base import Device
from assembler.transfer.blocks import Blocks, Integers, join_blocks, row_runs
from assembler.transfer.direct import DirectRowMover, check_inside
from assembler.transfer.mover import RowCopy, SlotPairs, grouped_copies
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
        # Asking torch whether memory is page-locked takes longer than computing the blocks.
        self._reached: WeakKeyDictionary[RowWindow, bool] = WeakKeyDictionary()
        self._admitted: tuple[SlotPairs, tuple[int, int]] | None = None

    @override
    def admit(
        self, accelerator: Device, slots: SlotPairs, *, host: RowWindow, label: str
    ) -> tuple[MemoryAccess, ...]:
        # All layers of an operation have the same slots: to look through them once is enough.
        host_slots, device_slots = slots.host_indices, slots.device_indices
        # torch counts the changes of a tensor in place.
        versions = (host_slots._version, device_slots._version)  # noqa: SLF001
        if self._admitted is not None:
            admitted, then = self._admitted
            if then == versions and _are_same(admitted, slots):
                return ()
        reads = super().admit(accelerator, slots, host=host, label=label)
        self._admitted = (slots, versions)
        return reads

    @override
    def run(self, accelerator: Device, copies: Sequence[RowCopy]) -> None:
        stream = int(torch.cuda.current_stream(accelerator.torch_device).cuda_stream)
        for group in grouped_copies(copies, lambda copy: bool(stream) and self._fits(copy)):
            if stream and self._fits(group[0]):
                self._copy_blocks(blocks_of(group), stream=stream)
            else:
                super().run(accelerator, group)

    def _fits(self, copy: RowCopy) -> bool:
        """Return whether the driver can copy the rows of both sides as they are, in a batch."""
        src, dst = copy.src.tensor, copy.dst.tensor
        is_alike = src.dtype == dst.dtype and src.shape[1:] == dst.shape[1:]
        return is_alike and self._reaches(copy.host) and self._reaches(copy.device)

    def _reaches(self, window: RowWindow) -> bool:
        known = self._reached.get(window)
        if known is None:
            tensor = window.tensor
            known = (tensor.is_cuda or tensor.is_pinned()) and tensor[:1].is_contiguous()
            self._reached[window] = known
        return known


def blocks_of(copies: Iterable[RowCopy]) -> Blocks:
    """Return the blocks of memory that copies move, as few as there can be in this order.

    Raises:
        TransferError: slots that are not whole rows, or rows outside of their buffer.
    """
    found = []
    for group in grouped_copies(copies, _group_key):
        first = group[0]
        first.slots.check()
        src_rows, dst_rows = first.src_rows(), first.dst_rows()
        check_inside(first.src, src_rows)
        check_inside(first.dst, dst_rows)
        found.append(_group_blocks(group, src_rows.numpy(), dst_rows.numpy()))
    return join_blocks(
        Blocks(
            src=np.concatenate([blocks.src for blocks in found]),
            dst=np.concatenate([blocks.dst for blocks in found]),
            sizes=np.concatenate([blocks.sizes for blocks in found]),
        )
    )


def _are_same(one: SlotPairs, other: SlotPairs) -> bool:
    return (
        one.host_indices is other.host_indices
        and one.device_indices is other.device_indices
        and one.row_map == other.row_map
    )


def _group_blocks(copies: Sequence[RowCopy], src_rows: Integers, dst_rows: Integers) -> Blocks:
    """Return the blocks of copies that move the same rows with the same strides."""
    src, dst = copies[0].src, copies[0].dst
    (src_stride, row_bytes), (dst_stride, _) = _row_sizes(src), _row_sizes(dst)
    touches = src_stride == row_bytes == dst_stride
    starts, lengths = row_runs(src_rows, dst_rows, touches=touches)
    src_bases = np.array([copy.src.tensor.data_ptr() for copy in copies], dtype=np.int64)
    dst_bases = np.array([copy.dst.tensor.data_ptr() for copy in copies], dtype=np.int64)
    return Blocks(
        src=(src_bases[:, None] + src_rows[starts] * src_stride).reshape(-1),
        dst=(dst_bases[:, None] + dst_rows[starts] * dst_stride).reshape(-1),
        sizes=np.tile(lengths * row_bytes, len(copies)),
    )


def _group_key(copy: RowCopy) -> tuple[object, ...]:
    slots, host, device = copy.slots, copy.host.tensor, copy.device.tensor
    indices = (id(slots.host_indices), id(slots.device_indices), slots.row_map)
    strides = (host.stride(0), device.stride(0))
    return (*indices, *strides, host.shape, device.shape, host.dtype)


def _row_sizes(window: RowWindow) -> tuple[int, int]:
    """Return the bytes from one row of the tensor to the next, and the bytes of a row."""
    tensor = window.tensor
    item_bytes = tensor.element_size()
    return tensor.stride(0) * item_bytes, math.prod(tensor.shape[1:]) * item_bytes
