"""Copies of groups of rows on a GPU, each group by the way that suits it."""

from weakref import WeakKeyDictionary

import numpy as np

from assembler.device.base import Device
from assembler.device.cuda import CudaDevice
from assembler.errors import OutOfDeviceMemoryError
from assembler.names import Direction
from assembler.transfer.blocks import Blocks
from assembler.transfer.cuda.batch import BatchedCopy
from assembler.transfer.cuda.driver import bind_context
from assembler.transfer.cuda.groups import RowGroup, blocks_between
from assembler.transfer.cuda.row_kernel import CopyPlan, CopyShape, row_kernels
from assembler.transfer.cuda.staging import StagedGroup, StagingRing, can_be_staged, joined_bytes
from assembler.transfer.cuda.ways import MoveGeometry, Way, WayLimits, choose_way
from assembler.transfer.kernel import WORD_BYTES
from assembler.transfer.operation_slots import OperationSlots, RowPairs
from assembler.transfer.windows import access_bytes


class PlannedGroup:
    """A group of rows in one direction, with what is known about its ways.

    Args:
        group: the rows.
        direction: the direction.

    Attributes:
        group: the rows.
        direction: the direction.
        has_words: whether all addresses, strides and widths are multiples of eight bytes.
        touches: whether rows that follow each other are one block on both sides.
        block_row_bytes: bytes that each row adds to a block of host memory; None where rows do not
            join there.
        in_place: the kernel's plan; None until it is needed.
        staged: the way through device memory; None until it is gone.
    """

    def __init__(self, group: RowGroup, direction: Direction) -> None:
        shape = group.shape
        self.group = group
        self.direction = direction
        numbers = np.concatenate((group.host, group.device, (shape.row_bytes, *shape.strides)))
        self.has_words = not (numbers % WORD_BYTES).any()
        self.touches = shape.strides == (shape.row_bytes, shape.row_bytes)
        self.block_row_bytes = joined_bytes(group) if can_be_staged(group) else None
        self.in_place: CopyPlan | None = None
        self.staged: StagedGroup | None = None


class GroupCopier:
    """Copies groups of rows between host pools and device pools of GPUs.

    Args:
        copy_blocks: the driver's batched copy; None where it has none.
        has_kernels: whether kernels can be compiled.
        limits: which rows go which way.
    """

    def __init__(
        self, copy_blocks: BatchedCopy | None, *, has_kernels: bool, limits: WayLimits
    ) -> None:
        self._copy_blocks = copy_blocks
        self._has_kernels = has_kernels
        self._limits = limits
        self._rings: WeakKeyDictionary[Device, StagingRing | None] = WeakKeyDictionary()

    def copy(self, device: CudaDevice, planned: PlannedGroup, slots: OperationSlots) -> None:
        """Copy the rows of slots, which lie in host memory or in device memory.

        Raises:
            TransferError: the driver refuses the copies.

        Order: on the current stream.
        """
        bind_context(device.ordinal)
        shape = planned.group.shape
        row_num = shape.row_map.row_num(slots.host_indices.numel())
        # No run is longer than all rows of a layer: small moves need not be looked through.
        may_be_long = row_num * shape.row_bytes >= self._limits.engine_bytes[planned.direction]
        needs_engine = not (planned.has_words and self._has_kernels)
        pairs = _known_pairs(planned, slots) if may_be_long or needs_engine else None
        way = self._choose(device, planned, slots, pairs)
        if way is Way.STAGED and self._stage(device, planned, slots):
            return
        if way is Way.ENGINE and pairs is not None and self._copy_blocks is not None:
            blocks = load_blocks(planned.group, pairs)
            loads = planned.direction is Direction.LOAD
            self._copy_blocks(blocks if loads else blocks.reversed(), stream=device.stream_handle())
            return
        self._copy_in_place(device, planned, slots.on_device())

    def _choose(
        self,
        device: CudaDevice,
        planned: PlannedGroup,
        slots: OperationSlots,
        pairs: RowPairs | None,
    ) -> Way:
        if self._copy_blocks is None:
            return Way.KERNEL
        if not self._has_kernels:
            return Way.ENGINE
        shape = planned.group.shape
        row_num = shape.row_map.row_num(slots.host_indices.numel())
        size = row_num * shape.row_bytes * len(planned.group.host)
        is_large = size >= self._limits.staged_bytes and planned.direction is Direction.BACKUP
        block_bytes = None
        if is_large and planned.block_row_bytes is not None and device.staging_bytes:
            runs = slots.known_host_runs(shape.row_map)
            if runs is not None and _are_inside(runs.ends, shape.row_nums[0]):
                block_bytes = runs.mean_length * planned.block_row_bytes
        return choose_way(
            MoveGeometry(
                direction=planned.direction,
                bytes=size,
                run_bytes=None if pairs is None else pairs.mean_length * shape.row_bytes,
                block_bytes=block_bytes,
                has_words=planned.has_words,
            ),
            self._limits,
        )

    def _copy_in_place(
        self, device: CudaDevice, planned: PlannedGroup, slots: OperationSlots
    ) -> None:
        shape = planned.group.shape
        plan = planned.in_place
        if plan is None:
            plan = planned.in_place = _in_place_plan(device, planned)
        src_slots, dst_slots, slots_per_row = slots.counted(shape.row_map)
        if planned.direction is Direction.BACKUP:
            src_slots, dst_slots = dst_slots, src_slots
        plan.launch(
            src_slots=src_slots.data_ptr(),
            dst_slots=dst_slots.data_ptr(),
            pair_num=src_slots.numel() // slots_per_row,
            programs=device.copy_programs,
            stream=device.stream_handle(),
        )

    def _stage(self, device: CudaDevice, planned: PlannedGroup, slots: OperationSlots) -> bool:
        """Back up through device memory; return False where there is no room for it."""
        ring = self._ring(device)
        runs = slots.known_host_runs(planned.group.shape.row_map)
        if ring is None or runs is None or self._copy_blocks is None:
            return False
        if not ring.row_num(planned.group):
            return False
        if planned.staged is None:
            planned.staged = StagedGroup(
                planned.group,
                ring,
                kernels=row_kernels(device.ordinal),
                copy_blocks=self._copy_blocks,
            )
        planned.staged.back_up(slots.on_device(), runs, device)
        return True

    def _ring(self, device: CudaDevice) -> StagingRing | None:
        if device not in self._rings:
            try:
                self._rings[device] = StagingRing(device)
            except OutOfDeviceMemoryError:
                # Pools may have taken all of it: then the kernel works in host memory.
                self._rings[device] = None
        return self._rings[device]


def load_blocks(group: RowGroup, pairs: RowPairs) -> Blocks:
    """Return the blocks that load some rows of a group, layer by layer."""
    shape = group.shape
    return blocks_between(
        (group.host, pairs.host * shape.strides[0]),
        (group.device, pairs.device * shape.strides[1]),
        pairs.lengths * shape.row_bytes,
    )


def _known_pairs(planned: PlannedGroup, slots: OperationSlots) -> RowPairs | None:
    """Return the rows of both sides where the host knows them and they lie in their buffers."""
    shape = planned.group.shape
    pairs = slots.known_pairs(shape.row_map, touches=planned.touches)
    if pairs is None or not all(map(_are_inside, pairs.ends, shape.row_nums)):
        return None
    return pairs


def _are_inside(ends: tuple[int, int], row_num: int) -> bool:
    return ends[0] >= 0 and ends[1] < max(row_num, 1)


def _in_place_plan(device: CudaDevice, planned: PlannedGroup) -> CopyPlan:
    group, shape = planned.group, planned.group.shape
    strides, row_nums, sides = shape.strides, shape.row_nums, (group.host, group.device)
    if planned.direction is Direction.BACKUP:
        strides, row_nums, sides = strides[::-1], row_nums[::-1], sides[::-1]
    pairs = tuple(zip(*(side.tolist() for side in sides), strict=True))
    slots_per_row = shape.row_map.slots_per_row or 1
    return row_kernels(device.ordinal).plan(
        CopyShape(
            strides=strides,
            row_nums=row_nums,
            slots_per_row=(slots_per_row, slots_per_row),
            row_bytes=shape.row_bytes,
            vector_bytes=access_bytes(
                shape.row_bytes, *strides, *(address for pair in pairs for address in pair)
            ),
            windows_inside=shape.strides[0] > shape.row_bytes,
        ),
        pairs,
        device.row_report_word,
    )
