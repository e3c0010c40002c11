"""The ``direct`` backend on a GPU: copy engines move all runs of rows of an operation."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.names import Direction
from assembler.transfer.blocks import Blocks
from assembler.transfer.cuda.groups import RowGroup, RowShape, blocks_between, grouped
from assembler.transfer.direct import DirectRowMover, check_inside
from assembler.transfer.kernel import WORD_BYTES
from assembler.transfer.layer_rows import LayerRows, RowSet
from assembler.transfer.mover import RowCopy, SetMover
from assembler.transfer.operation_slots import OperationSlots, RowPairs
from assembler.transfer.windows import RowWindow

# The driver takes half a microsecond for a block, in which an H200 moves 27 kB: with blocks of
# 8 kB it reached a quarter of the speed of the kernel.
_FEWEST_BLOCK_BYTES = 16 << 10


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """Rows of a set as the copy engine sees them, and the rest, which torch moves."""

    groups: tuple[RowGroup, ...]
    others: tuple[LayerRows, ...]


class CudaDirectMover(SetMover):
    """Copies of several planes and layers in batches, without a launch for each run of rows.

    Memory that is not page-locked, and the default stream, are left to torch's copies: the driver
    takes neither in a batch.

    Args:
        copy_blocks: copies blocks on a stream, see
            :class:`~assembler.transfer.cuda.batch.BatchedCopy`.
        kernel: moves sets whose runs of rows are too short for the copy engine; None where there is
            no Triton.
    """

    def __init__(self, copy_blocks: Callable[..., None], kernel: SetMover | None) -> None:
        self._copy_blocks = copy_blocks
        self._kernel = kernel
        self._portable = DirectRowMover()
        self._plans: WeakKeyDictionary[RowSet, _Plan] = WeakKeyDictionary()

    @override
    def copy_set(
        self, accelerator: Device, row_set: RowSet, slots: OperationSlots, direction: Direction
    ) -> None:
        first = row_set.rows[0]
        if not slots.is_admitted:
            # All layers of an operation have the same slots: to look through them once is enough.
            self._portable.admit(accelerator, slots.pairs(first), host=first.host, label="")
            slots.is_admitted = True
        plan = self._plans.get(row_set)
        if plan is None:
            plan = self._plans[row_set] = _make_plan(row_set)
        stream = int(torch.cuda.current_stream(accelerator.torch_device).cuda_stream)
        for rows in plan.others if stream else row_set.rows:
            copy = RowCopy(
                direction=direction, slots=slots.pairs(rows), host=rows.host, device=rows.device
            )
            self._portable.check(subject=rows.subject, src=copy.src, dst=copy.dst)
            self._portable.run(copy)
        if not stream or not plan.groups:
            return
        pairs = [_checked_pairs(group.shape, slots) for group in plan.groups]
        if self._kernel is not None and not plan.others and _are_short(plan.groups[0], pairs[0]):
            self._kernel.copy_set(accelerator, row_set, slots.uploaded(), direction)
            return
        for group, pairs_of_group in zip(plan.groups, pairs, strict=True):
            blocks = load_blocks(group, pairs_of_group)
            self._copy_blocks(
                blocks if direction is Direction.LOAD else blocks.reversed(), stream=stream
            )


def _make_plan(row_set: RowSet) -> _Plan:
    fitting = [rows for rows in row_set.rows if _fits(rows)]
    return _Plan(
        groups=grouped(fitting, _shape_of, _addresses_of),
        others=tuple(rows for rows in row_set.rows if not _fits(rows)),
    )


def _checked_pairs(shape: RowShape, slots: OperationSlots) -> RowPairs:
    """Return the rows of slots on both sides; raise TransferError for rows outside."""
    touches = shape.strides == (shape.row_bytes, shape.row_bytes)
    pairs = slots.row_pairs(shape.row_map, touches=touches)
    if len(pairs.lengths):
        for ends, row_num in zip(pairs.ends, shape.row_nums, strict=True):
            check_inside(np.array(ends), row_num)
    return pairs


def _are_short(group: RowGroup, pairs: RowPairs) -> bool:
    """Return whether the blocks of a group are too short for the copy engine, for a kernel not."""
    shape = group.shape
    if len(pairs.lengths) == 0 or shape.row_bytes * pairs.lengths.mean() >= _FEWEST_BLOCK_BYTES:
        return False
    numbers = (shape.row_bytes, *shape.strides, *group.host.tolist(), *group.device.tolist())
    return not any(number % WORD_BYTES for number in numbers)


def load_blocks(group: RowGroup, pairs: RowPairs) -> Blocks:
    """Return the blocks that load some rows of a group, layer by layer."""
    shape = group.shape
    return blocks_between(
        (group.host, pairs.host * shape.strides[0]),
        (group.device, pairs.device * shape.strides[1]),
        pairs.lengths * shape.row_bytes,
    )


def _fits(rows: LayerRows) -> bool:
    """Return whether the driver can copy the rows of both sides as they are."""
    host, device = rows.host.tensor, rows.device.tensor
    is_alike = host.dtype == device.dtype and host.shape[1:] == device.shape[1:]
    return is_alike and _reaches(rows.host) and _reaches(rows.device)


def _reaches(window: RowWindow) -> bool:
    tensor = window.tensor
    return (tensor.is_cuda or tensor.is_pinned()) and tensor[:1].is_contiguous()


def _shape_of(rows: LayerRows) -> RowShape:
    (host_stride, row_bytes), (device_stride, _) = _row_sizes(rows.host), _row_sizes(rows.device)
    return RowShape(
        row_map=rows.row_map,
        row_bytes=row_bytes,
        strides=(host_stride, device_stride),
        row_nums=(rows.host.tensor.shape[0], rows.device.tensor.shape[0]),
    )


def _addresses_of(rows: LayerRows) -> tuple[int, int]:
    return rows.host.tensor.data_ptr(), rows.device.tensor.data_ptr()


def _row_sizes(window: RowWindow) -> tuple[int, int]:
    """Return the bytes from one row of the tensor to the next, and the bytes of a row."""
    tensor = window.tensor
    item_bytes = tensor.element_size()
    return tensor.stride(0) * item_bytes, math.prod(tensor.shape[1:]) * item_bytes
