"""The ``kernel`` backend on a GPU: all planes and layers that have equal rows together."""

from weakref import WeakKeyDictionary

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.device.cuda import CudaDevice
from assembler.errors import OutOfDeviceMemoryError
from assembler.names import Direction
from assembler.transfer.blocks import RowRuns
from assembler.transfer.cuda.batch import BatchedCopy
from assembler.transfer.cuda.groups import RowGroup, RowShape, grouped, split_where_rows_end
from assembler.transfer.cuda.row_kernel import CopyPlan, CopyShape, launch_copy, make_plan
from assembler.transfer.cuda.staging import StagedGroup, StagingRing, can_be_staged, joined_bytes
from assembler.transfer.kernel import KernelRowMover
from assembler.transfer.layer_rows import LayerRows, RowSet
from assembler.transfer.mover import SetMover
from assembler.transfer.operation_slots import OperationSlots
from assembler.transfer.windows import RowWindow, access_bytes

# Of a group, and of one block that the copy engine moves. A piece costs the host 0.2 ms, a block
# a microsecond: with pages of one layer, 42 to 131 kB, an H200 reached 0.53 to 0.82 of a pinned
# copy this way, and 0.85 to 0.93 in host memory.
_FEWEST_STAGED_BYTES = 32 << 20
_FEWEST_BLOCK_BYTES = 256 << 10


class _GroupPlan:
    """A group in one direction.

    Args:
        group: the rows.
        in_place: the kernel's plan for reading or writing host memory.

    Attributes:
        group: the rows.
        in_place: the kernel's plan for reading or writing host memory.
        staged: the way through device memory; None until it is gone.
    """

    def __init__(self, group: RowGroup, in_place: CopyPlan) -> None:
        self.group = group
        self.in_place = in_place
        self.staged: StagedGroup | None = None


class CudaKernelMover(SetMover):
    """Rows by address: large moves through device memory, others by a kernel in host memory.

    Only the kernel reads the device slots, when it runs; a row outside of its buffer is not moved
    then but reported to the device, which raises when the host learns that the work is done. The
    way through device memory needs host slots that the host knows.

    Args:
        copy_blocks: copies blocks on a stream; None where the driver cannot.
    """

    def __init__(self, copy_blocks: BatchedCopy | None) -> None:
        self._copy_blocks = copy_blocks
        self._portable = KernelRowMover()
        self._plans: WeakKeyDictionary[RowSet, dict[Direction, tuple[_GroupPlan, ...]]] = (
            WeakKeyDictionary()
        )
        self._rings: WeakKeyDictionary[Device, dict[Direction, StagingRing | None]] = (
            WeakKeyDictionary()
        )

    @override
    def copy_set(
        self, accelerator: Device, row_set: RowSet, slots: OperationSlots, direction: Direction
    ) -> None:
        assert isinstance(accelerator, CudaDevice)
        if not slots.is_admitted:
            first = row_set.rows[0]
            self._portable.admit(accelerator, slots.pairs(first), host=first.host, label="")
            slots.is_admitted = True
        with torch.cuda.device(accelerator.torch_device):
            plans = self._plans.setdefault(row_set, {})
            if direction not in plans:
                plans[direction] = self._make_plans(accelerator, row_set, slots, direction)
            for plan in plans[direction]:
                runs = self._staged_runs(plan.group, slots)
                staged = None if runs is None else self._staged(plan, accelerator, direction)
                if runs is not None and staged is not None:
                    staged.copy(slots, runs, accelerator)
                    continue
                src_rows, dst_rows = slots.rows(plan.group.shape.row_map)
                if direction is Direction.BACKUP:
                    src_rows, dst_rows = dst_rows, src_rows
                launch_copy(
                    plan.in_place,
                    src_rows=src_rows,
                    dst_rows=dst_rows,
                    programs=accelerator.copy_programs,
                )

    def _staged_runs(self, group: RowGroup, slots: OperationSlots) -> RowRuns | None:
        """Return the host's rows where a group moves through device memory, else None."""
        shape = group.shape
        row_num = shape.row_map.row_num(slots.host_indices.numel())
        if row_num * shape.row_bytes * len(group.host) < _FEWEST_STAGED_BYTES:
            return None
        if self._copy_blocks is None or not can_be_staged(group):
            return None
        runs = slots.known_host_runs(shape.row_map)
        if runs is None or runs.mean_length * joined_bytes(group) < _FEWEST_BLOCK_BYTES:
            return None
        is_inside = runs.ends[0] >= 0 and runs.ends[1] < shape.row_nums[0]
        return runs if is_inside else None

    def _make_plans(
        self, device: CudaDevice, row_set: RowSet, slots: OperationSlots, direction: Direction
    ) -> tuple[_GroupPlan, ...]:
        addressed: list[tuple[LayerRows, RowWindow, RowWindow]] = []
        for rows in row_set.rows:
            self._portable.admit(device, slots.pairs(rows), host=rows.host, label="")
            host = self._portable.addressed(device, rows.host)
            there = self._portable.addressed(device, rows.device)
            src, dst = (host, there) if direction is Direction.LOAD else (there, host)
            self._portable.check(subject=rows.subject, src=src, dst=dst)
            addressed.append((rows, host, there))
        groups = grouped(addressed, _shape_of, lambda item: (item[1].address, item[2].address))
        groups = tuple(part for group in groups for part in split_where_rows_end(group))
        report = device.row_report_word
        return tuple(
            _GroupPlan(group, _in_place_plan(group, direction, report)) for group in groups
        )

    def _staged(
        self, plan: _GroupPlan, device: CudaDevice, direction: Direction
    ) -> StagedGroup | None:
        """Return the way of a group through device memory; None where there is no room for it."""
        ring = self._ring(device, direction)
        if ring is None or self._copy_blocks is None or not ring.row_num(plan.group):
            return None
        if plan.staged is None:
            loads = direction is Direction.LOAD
            plan.staged = StagedGroup(plan.group, ring, loads=loads, copy_blocks=self._copy_blocks)
        return plan.staged

    def _ring(self, device: CudaDevice, direction: Direction) -> StagingRing | None:
        rings = self._rings.setdefault(device, {})
        if direction not in rings:
            try:
                rings[direction] = StagingRing(device) if device.staging_bytes else None
            except OutOfDeviceMemoryError:
                # Pools may have taken all of it: then the kernel works in host memory.
                rings[direction] = None
        return rings[direction]


def _in_place_plan(group: RowGroup, direction: Direction, report: torch.Tensor) -> CopyPlan:
    shape = group.shape
    strides, row_nums, sides = shape.strides, shape.row_nums, (group.host, group.device)
    if direction is Direction.BACKUP:
        strides, row_nums, sides = strides[::-1], row_nums[::-1], sides[::-1]
    pairs = tuple(zip(*(side.tolist() for side in sides), strict=True))
    return make_plan(
        CopyShape(
            strides=strides,
            row_nums=row_nums,
            row_bytes=shape.row_bytes,
            vector_bytes=access_bytes(
                shape.row_bytes, *strides, *(address for pair in pairs for address in pair)
            ),
            windows_inside=shape.strides[0] > shape.row_bytes,
        ),
        pairs,
        report,
    )


def _shape_of(item: tuple[LayerRows, RowWindow, RowWindow]) -> RowShape:
    rows, host, device = item
    return RowShape(
        row_map=rows.row_map,
        row_bytes=host.row_bytes,
        strides=(host.stride_bytes, device.stride_bytes),
        row_nums=(host.row_num, device.row_num),
    )
