"""The ``kernel`` backend on a GPU: all planes and layers that have equal rows together."""

from typing_extensions import override

from assembler.device.base import Device
from assembler.device.cuda import CudaDevice
from assembler.names import Direction
from assembler.transfer.cuda.copier import GroupCopier, PlannedGroup
from assembler.transfer.cuda.groups import grouped, shape_of, split_where_rows_end
from assembler.transfer.kernel import KernelRowMover
from assembler.transfer.layer_rows import LayerRows, RowSet
from assembler.transfer.mover import SetMover
from assembler.transfer.operation_slots import OperationSlots
from assembler.transfer.windows import RowWindow


class CudaKernelMover(SetMover):
    """Rows by address, without shape checks.

    Where the host knows the slots, copy engines may move them. Otherwise only a kernel reads them,
    when it runs; a row outside of its buffer is not moved then but reported to the device, which
    raises when the host learns that the work is done.

    Args:
        copier: copies groups of rows.
    """

    def __init__(self, copier: GroupCopier) -> None:
        self._copier = copier
        self._portable = KernelRowMover()

    @override
    def copy_set(
        self, accelerator: Device, row_set: RowSet, slots: OperationSlots, direction: Direction
    ) -> None:
        assert isinstance(accelerator, CudaDevice)
        planned = row_set.plans.get((self, direction))
        if planned is None:
            planned = self._make_plans(accelerator, row_set, slots, direction)
            row_set.plans[self, direction] = planned
        elif not slots.is_admitted and not _are_on(accelerator, slots):
            first = row_set.rows[0]
            self._portable.admit(accelerator, slots.pairs(first), host=first.host, label="")
        slots.is_admitted = True
        self._copier.copy(accelerator, planned, slots)

    def _make_plans(
        self, device: CudaDevice, row_set: RowSet, slots: OperationSlots, direction: Direction
    ) -> tuple[PlannedGroup, ...]:
        addressed: list[tuple[LayerRows, RowWindow, RowWindow]] = []
        for rows in row_set.rows:
            self._portable.admit(device, slots.pairs(rows), host=rows.host, label="")
            host = self._portable.addressed(device, rows.host)
            there = self._portable.addressed(device, rows.device)
            src, dst = (host, there) if direction is Direction.LOAD else (there, host)
            self._portable.check(subject=rows.subject, src=src, dst=dst)
            addressed.append((rows, host, there))
        groups = grouped(addressed, shape_of, lambda item: (item[1].address, item[2].address))
        return tuple(
            PlannedGroup(part, direction)
            for group in groups
            for part in split_where_rows_end(group)
        )


def _are_on(device: CudaDevice, slots: OperationSlots) -> bool:
    sides = (slots.host_indices, slots.device_indices)
    return all(indices.get_device() == device.ordinal for indices in sides)
