"""Copies of groups of rows on a GPU, each group by the way that suits it."""

from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch

from assembler.device.base import Device
from assembler.device.cuda import CudaDevice
from assembler.errors import OutOfDeviceMemoryError
from assembler.names import Direction
from assembler.transfer.blocks import Blocks, joined
from assembler.transfer.cuda.batch import BatchedCopy
from assembler.transfer.cuda.driver import bind_context
from assembler.transfer.cuda.groups import RowGroup, RowShape, blocks_between
from assembler.transfer.cuda.row_kernel import LINE_BYTES, CopyPlan, CopyShape, row_kernels
from assembler.transfer.cuda.staging import StagedGroup, StagingRing, can_be_staged, joined_bytes
from assembler.transfer.cuda.ways import MoveGeometry, Way, WayLimits, choose_way, is_long
from assembler.transfer.kernel import WORD_BYTES
from assembler.transfer.operation_slots import OperationSlots, RowPairs
from assembler.transfer.windows import access_bytes

# What the host does before the first piece through device memory takes as long as these bytes do.
_LEAD_BYTES = 16 << 20
# Rows of one head have 256 bytes: bulk copies of them are half as fast as registers.
_FEWEST_BULK_BYTES = 1 << 10


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


@dataclass(slots=True, kw_only=True, eq=False)
class _Move:
    """A group of rows of one operation, with its way.

    Attributes:
        planned: the group.
        size: bytes.
        pairs: the rows, where the host knows them and has looked.
        way: the way.
        start: rows at the beginning that were launched already.
    """

    planned: PlannedGroup
    size: int
    pairs: RowPairs | None = None
    way: Way = Way.KERNEL
    start: int = 0


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

    def copy(
        self, device: CudaDevice, planned: tuple[PlannedGroup, ...], slots: OperationSlots
    ) -> None:
        """Copy the rows of slots, which lie in host memory or in device memory.

        Raises:
            TransferError: the driver refuses the copies.

        Order: on the current stream.
        """
        bind_context(device.ordinal)
        moves = [self._plan_move(device, one, slots) for one in planned]
        _follow_long_runs(moves, slots)
        for blocks in _blocks_in_turn([move for move in moves if move.way is Way.ENGINE]):
            assert self._copy_blocks is not None
            self._copy_blocks(
                blocks, stream=device.stream_handle(), is_first=not slots.is_under_way
            )
            slots.is_under_way = True
        for move in moves:
            if move.way is Way.STAGED and self._stage(device, move, slots):
                continue
            if move.way is not Way.ENGINE:
                self._copy_in_place(
                    device, move.planned, slots.on_device(), start=move.start, stop=None
                )
        slots.is_under_way = True

    def _plan_move(
        self, device: CudaDevice, planned: PlannedGroup, slots: OperationSlots
    ) -> "_Move":
        shape = planned.group.shape
        layer_bytes = shape.row_map.row_num(slots.host_indices.numel()) * shape.row_bytes
        move = _Move(planned=planned, size=layer_bytes * len(planned.group.host))
        if self._copy_blocks is None:
            return move
        must_be_known = not (planned.has_words and self._has_kernels)
        if must_be_known or self._may_be_long(planned, slots, layer_bytes):
            move.pairs = _known_pairs(planned, slots)
        if must_be_known:
            move.way = Way.ENGINE
            return move
        run_bytes = None if move.pairs is None else move.pairs.mean_length * shape.row_bytes
        may_be_staged = not is_long(run_bytes) and self._may_be_staged(device, move, slots)
        if may_be_staged and not slots.is_under_way:
            # Copy engines, if it comes to them, move these rows once more.
            self._launch_lead(device, move, slots)
        move.way = choose_way(
            MoveGeometry(
                direction=planned.direction,
                bytes=move.size,
                run_bytes=run_bytes,
                block_bytes=_block_bytes(planned, slots) if may_be_staged else None,
            ),
            self._limits,
        )
        return move

    def _launch_lead(self, device: CudaDevice, move: "_Move", slots: OperationSlots) -> None:
        """Launch the first rows in place, so that the GPU does not wait while the host looks."""
        there = slots.on_device()
        row_num = move.planned.group.shape.row_map.row_num(slots.host_indices.numel())
        move.start = row_num * min(_LEAD_BYTES, move.size // 4) // move.size
        if slots.begin is None:
            slots.begin = torch.cuda.Event()
            slots.begin.record(torch.cuda.current_stream(device.torch_device))
        self._copy_in_place(device, move.planned, there, start=0, stop=move.start)
        slots.is_under_way = True

    def _may_be_long(self, planned: PlannedGroup, slots: OperationSlots, layer_bytes: int) -> bool:
        """Return whether runs may be long enough for the copy engine.

        No run is longer than all rows of a layer, nor longer than those of the host pool alone.
        """
        shape = planned.group.shape
        if layer_bytes < self._limits.engine_bytes:
            return False
        return slots.may_have_runs(shape.row_map, self._limits.engine_bytes / shape.row_bytes)

    def _may_be_staged(self, device: CudaDevice, move: "_Move", slots: OperationSlots) -> bool:
        """Return whether blocks of host memory may be long enough to be staged."""
        planned = move.planned
        is_small = move.size < self._limits.staged_bytes or not device.staging_bytes
        if is_small or planned.direction is Direction.LOAD or planned.block_row_bytes is None:
            return False
        fewest_rows = self._limits.block_bytes / planned.block_row_bytes
        return slots.may_have_runs(planned.group.shape.row_map, fewest_rows)

    def _copy_in_place(
        self,
        device: CudaDevice,
        planned: PlannedGroup,
        slots: OperationSlots,
        *,
        start: int,
        stop: int | None,
    ) -> None:
        """Launch the kernel for the rows from ``start`` to ``stop``, by position; None: the end."""
        plan = planned.in_place
        if plan is None:
            plan = planned.in_place = _in_place_plan(device, planned)
        src_slots, dst_slots, slots_per_row = slots.counted(planned.group.shape.row_map)
        if planned.direction is Direction.BACKUP:
            src_slots, dst_slots = dst_slots, src_slots
        skipped = start * slots_per_row * src_slots.itemsize
        plan.launch(
            src_slots=src_slots.data_ptr() + skipped,
            dst_slots=dst_slots.data_ptr() + skipped,
            pair_num=(src_slots.numel() // slots_per_row if stop is None else stop) - start,
            programs=min(device.copy_programs, plan.most_blocks),
            stream=device.stream_handle(),
        )

    def _stage(self, device: CudaDevice, move: "_Move", slots: OperationSlots) -> bool:
        """Back up through device memory; return False where there is no room for it."""
        planned, ring = move.planned, self._ring(device)
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
        planned.staged.back_up(slots, runs, device, start=move.start)
        return True

    def _ring(self, device: CudaDevice) -> StagingRing | None:
        if device not in self._rings:
            try:
                self._rings[device] = StagingRing(device)
            except OutOfDeviceMemoryError:
                # Pools may have taken all of it: then the kernel works in host memory.
                self._rings[device] = None
        return self._rings[device]


def _follow_long_runs(moves: list[_Move], slots: OperationSlots) -> None:
    """Let groups that have no more runs than those for the copy engine go with them.

    The copy engine would wait for a kernel on the same stream.
    """
    most = sum(
        len(move.pairs.lengths) * len(move.planned.group.host)
        for move in moves
        if move.way is Way.ENGINE and move.pairs is not None
    )
    for move in moves if most else ():
        if move.way is Way.KERNEL:
            pairs = move.pairs or _known_pairs(move.planned, slots)
            if pairs is not None and len(pairs.lengths) * len(move.planned.group.host) <= most:
                move.pairs, move.way = pairs, Way.ENGINE


def _blocks_in_turn(moves: list[_Move]) -> Iterator[Blocks]:
    """Yield the blocks of moves, few of them first: the copy engine begins meanwhile."""
    if moves:
        yield joined([_blocks_of(move, slice(1)) for move in moves])
        rest = [move for move in moves if len(move.planned.group.host) > 1]
        if rest:
            yield joined([_blocks_of(move, slice(1, None)) for move in rest])


def _blocks_of(move: _Move, windows: slice) -> Blocks:
    assert move.pairs is not None
    blocks = load_blocks(move.planned.group, move.pairs, windows)
    return blocks if move.planned.direction is Direction.LOAD else blocks.reversed()


def load_blocks(group: RowGroup, pairs: RowPairs, windows: slice) -> Blocks:
    """Return the blocks that load some rows of planes and layers of a group, one by one."""
    shape = group.shape
    return blocks_between(
        (group.host[windows], pairs.host * shape.strides[0]),
        (group.device[windows], pairs.device * shape.strides[1]),
        pairs.lengths * shape.row_bytes,
    )


def _block_bytes(planned: PlannedGroup, slots: OperationSlots) -> float | None:
    """Return the mean bytes of the blocks of host memory, where the host knows its rows."""
    shape = planned.group.shape
    runs = slots.known_host_runs(shape.row_map)
    if runs is None or planned.block_row_bytes is None:
        return None
    if not _are_inside(runs.ends, shape.row_nums[0]):
        return None
    return runs.mean_length * planned.block_row_bytes


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
    windows_inside = shape.strides[0] > shape.row_bytes
    return row_kernels(device.ordinal).plan(
        CopyShape(
            strides=strides,
            row_nums=row_nums,
            slots_per_row=(slots_per_row, slots_per_row),
            row_bytes=shape.row_bytes,
            vector_bytes=access_bytes(
                shape.row_bytes, *strides, *(address for pair in pairs for address in pair)
            ),
            windows_inside=windows_inside,
        ),
        pairs,
        device.row_report_word,
        uses_bulk=not windows_inside or _reads_lines(shape, planned.direction),
    )


def _reads_lines(shape: RowShape, direction: Direction) -> bool:
    """Return whether rows that lie apart in host memory come faster by bulk copies.

    They are read, are long, and begin where a line of 128 bytes does. Others come through
    registers.
    """
    if direction is Direction.BACKUP or shape.row_bytes < _FEWEST_BULK_BYTES:
        return False
    return not (shape.row_bytes % LINE_BYTES or shape.strides[0] % LINE_BYTES)
