"""The ``direct`` backend on a GPU: rows whose shapes agree, and which the host knows."""

from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from assembler.device.base import Device
from assembler.device.cuda import CudaDevice
from assembler.names import Direction
from assembler.transfer.cuda.copier import GroupCopier, PlannedGroup
from assembler.transfer.cuda.groups import RowShape, grouped, shape_of, split_where_rows_end
from assembler.transfer.direct import DirectRowMover, check_inside, check_on_host
from assembler.transfer.layer_rows import LayerRows, RowSet
from assembler.transfer.mover import RowCopy, SetMover
from assembler.transfer.operation_slots import OperationSlots
from assembler.transfer.windows import RowWindow


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """Rows of a set that a GPU moves together, and the rest, which torch moves."""

    groups: tuple[PlannedGroup, ...]
    others: tuple[LayerRows, ...]


class CudaDirectMover(SetMover):
    """Copies of several planes and layers together, without a launch for each run of rows.

    Memory that is not page-locked, and the default stream, are left to torch's copies: the driver
    takes neither in a batch.

    Args:
        copier: copies groups of rows.
    """

    def __init__(self, copier: GroupCopier) -> None:
        self._copier = copier
        self._portable = DirectRowMover()

    @override
    def copy_set(
        self, accelerator: Device, row_set: RowSet, slots: OperationSlots, direction: Direction
    ) -> None:
        assert isinstance(accelerator, CudaDevice)
        first = row_set.rows[0]
        if not slots.is_admitted:
            check_on_host(slots.pairs(first))
            slots.is_admitted = True
        plan: _Plan | None = row_set.plans.get((self, direction))
        if plan is None:
            plan = row_set.plans[self, direction] = _make_plan(row_set, direction)
        is_default = accelerator.stream_handle() == 0
        for rows in row_set.rows if is_default else plan.others:
            copy = RowCopy(
                direction=direction, slots=slots.pairs(rows), host=rows.host, device=rows.device
            )
            self._portable.check(subject=rows.subject, src=copy.src, dst=copy.dst)
            self._portable.run(copy)
        if is_default:
            return
        for planned in plan.groups:
            check_rows(planned, slots)
        self._copier.copy(accelerator, plan.groups, slots)


def check_rows(planned: PlannedGroup, slots: OperationSlots) -> None:
    """Raise TransferError for slots in host memory that are not whole rows, or lie outside."""
    shape: RowShape = planned.group.shape
    pairs = slots.row_pairs(shape.row_map, touches=planned.touches)
    for ends, row_num in zip(pairs.ends, shape.row_nums, strict=True):
        if len(pairs.lengths) and not 0 <= ends[0] <= ends[1] < row_num:
            check_inside(np.array(ends), row_num)


def _make_plan(row_set: RowSet, direction: Direction) -> _Plan:
    fitting = [(rows, rows.host, rows.device) for rows in row_set.rows if _fits(rows)]
    groups = grouped(fitting, shape_of, lambda item: (item[1].address, item[2].address))
    return _Plan(
        groups=tuple(
            PlannedGroup(part, direction)
            for group in groups
            for part in split_where_rows_end(group)
        ),
        others=tuple(rows for rows in row_set.rows if not _fits(rows)),
    )


def _fits(rows: LayerRows) -> bool:
    """Return whether rows have equal shapes on both sides, in memory that a GPU reaches."""
    host, device = rows.host.tensor, rows.device.tensor
    is_alike = host.dtype == device.dtype and host.shape[1:] == device.shape[1:]
    return is_alike and _reaches(rows.host) and _reaches(rows.device)


def _reaches(window: RowWindow) -> bool:
    tensor = window.tensor
    is_reached = tensor.is_cuda or tensor.is_pinned()
    return is_reached and tensor[:1].is_contiguous() and _describes(window)


def _describes(window: RowWindow) -> bool:
    """Return whether the addresses of a window are those of its tensor's rows."""
    tensor = window.tensor
    stride = tensor.stride(0) * tensor.element_size()
    return tensor.data_ptr() == window.address and stride == window.stride_bytes
