"""Device memory for backups: a kernel gathers rows there, and a copy engine moves the blocks.

A kernel that writes host memory in place reaches 0.95 of the speed of a copy engine over PCIe, and
keeps its multiprocessors busy all the while. Between two places in device memory it takes a tenth
of that time; the copy engine then moves large blocks.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from assembler.device.cuda import CudaDevice
from assembler.transfer.blocks import Blocks, RowRuns
from assembler.transfer.cuda.batch import BatchedCopy
from assembler.transfer.cuda.groups import RowGroup, blocks_between
from assembler.transfer.cuda.row_kernel import CopyPlan, CopyShape, RowKernels
from assembler.transfer.operation_slots import OperationSlots
from assembler.transfer.windows import access_bytes

_PART_NUM = 4
# The first pieces of an operation are smaller, so that the copy engine begins soon; what the host
# does for the next one takes less time than the copy of this one.
_FIRST_SHARE = 4
_GROWTH = 4


class StagingRing:
    """Parts of device memory that take turns; work of any stream may use it.

    Attributes:
        part_bytes: bytes of a part.
        stream: where the kernel runs.
        lock: held while work is launched that uses the ring.
        filled: for each part, what is recorded once the kernel has written it.
        free: for each part, what is recorded once the copy engine has read it.
    """

    def __init__(self, device: CudaDevice) -> None:
        self.part_bytes = device.staging_bytes // _PART_NUM // 4096 * 4096
        # torch hands out streams of one priority in turns: an ordinary one could be the caller's.
        self.stream = torch.cuda.Stream(device.torch_device, priority=-1)
        self.lock = threading.Lock()
        # An event that was never recorded is done.
        self.filled = [torch.cuda.Event() for _ in range(_PART_NUM)]
        self.free = [torch.cuda.Event() for _ in range(_PART_NUM)]
        self._device = device.torch_device
        self._buffer = device.empty((self.part_bytes * _PART_NUM,), torch.uint8)
        self._positions = torch.arange(0, device=self._device)
        self._turn = -1

    def row_num(self, group: RowGroup) -> int:
        """Return how many rows of a group, of all planes and layers, a part has room for."""
        return self.part_bytes // (len(group.host) * group.shape.row_bytes)

    def take(self) -> int:
        """Return the number of the next part."""
        self._turn = (self._turn + 1) % _PART_NUM
        return self._turn

    def address(self, part: int) -> int:
        """Return the address of a part."""
        return int(self._buffer.data_ptr()) + part * self.part_bytes

    def positions(self, number: int) -> int:
        """Return the address of ``0 .. number - 1``, ``(number,) int64`` in device memory."""
        if len(self._positions) < number:
            # Uploaded with the host waiting: later calls use it on other streams.
            self._positions = torch.arange(2 * number).to(self._device)
        return int(self._positions.data_ptr())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Piece:
    """Rows that move together.

    Attributes:
        start: position of the first.
        row_num: rows.
        device_slots: address of the first slot in the device pool.
        blocks: what the copy engine moves.
    """

    start: int
    row_num: int
    device_slots: int
    blocks: Blocks


class StagedGroup:
    """A group of rows whose backups go through a ring.

    In a part the rows lie as in host memory: those of one plane and layer follow each other, or
    the planes and layers of one row do.

    Args:
        group: the rows.
        ring: the ring.
        kernels: the GPU's kernels.
        copy_blocks: copies blocks on a stream.
    """

    def __init__(
        self, group: RowGroup, ring: StagingRing, *, kernels: RowKernels, copy_blocks: BatchedCopy
    ) -> None:
        self._group = group
        self._ring = ring
        self._kernels = kernels
        self._copy_blocks = copy_blocks
        shape = group.shape
        self._is_row_major = shape.strides[0] != shape.row_bytes
        self.row_num = ring.row_num(group)
        self._plans: dict[int, CopyPlan] = {}

    def back_up(
        self, slots: OperationSlots, runs: RowRuns, device: CudaDevice, *, start: int
    ) -> None:
        """Copy the rows of slots from position ``start`` on; ``runs`` are those of the host pool.

        Order: on the current stream, with work on the ring's stream in between.
        """
        row_map = self._group.shape.row_map
        device_slots, slots_per_row = slots.on_device().counted(row_map)[1:]
        main = torch.cuda.current_stream(device.torch_device)
        ring = self._ring
        with ring.lock:
            if slots.begin is None:
                # One event for all groups: later ones must not wait for earlier copies.
                slots.begin = torch.cuda.Event()
                slots.begin.record(main)
            ring.stream.wait_event(slots.begin)
            for first, stop in self._pieces(runs, start, is_first=not slots.is_staged):
                part = ring.take()
                piece = _Piece(
                    start=first,
                    row_num=stop - first,
                    device_slots=device_slots.data_ptr() + 8 * slots_per_row * first,
                    blocks=self._blocks(ring.address(part), runs, first, stop),
                )
                self._move_piece(
                    part, piece, main=main, device=device, is_first=not slots.is_staged
                )
                slots.is_staged = True

    def _move_piece(
        self,
        part: int,
        piece: _Piece,
        *,
        main: torch.cuda.Stream,
        device: CudaDevice,
        is_first: bool,
    ) -> None:
        ring = self._ring
        plan = self._plans.get(part)
        if plan is None:
            plan = self._plans[part] = self._make_plan(part, device.row_report_word)
        ring.stream.wait_event(ring.free[part])
        plan.launch(
            src_slots=piece.device_slots,
            dst_slots=ring.positions(piece.row_num),
            pair_num=piece.row_num,
            programs=device.staging_programs,
            stream=ring.stream.cuda_stream,
        )
        ring.filled[part].record(ring.stream)
        main.wait_event(ring.filled[part])
        self._copy_blocks(piece.blocks, stream=main.cuda_stream, is_first=is_first)
        ring.free[part].record(main)

    def _pieces(self, runs: RowRuns, start: int, *, is_first: bool) -> Iterator[tuple[int, int]]:
        """Yield the rows of each piece from a position on, ``(start, stop)``, that a part holds.

        Pieces end where runs end, if they can: the copy engine gets no shorter blocks then.
        """
        size = max(1, self.row_num // _FIRST_SHARE) if is_first else self.row_num
        row_num = len(runs.rows)
        while start < row_num:
            stop = runs.cut_before(start, min(start + size, row_num))
            yield start, stop
            start, size = stop, min(_GROWTH * size, self.row_num)

    def _strides(self) -> tuple[int, int]:
        """Return the bytes between rows, and between planes and layers, in a part."""
        row_bytes = self._group.shape.row_bytes
        if self._is_row_major:
            return len(self._group.host) * row_bytes, row_bytes
        return row_bytes, self.row_num * row_bytes

    def _make_plan(self, part: int, report: torch.Tensor) -> CopyPlan:
        group, shape = self._group, self._group.shape
        row_step, window_step = self._strides()
        first = self._ring.address(part)
        staged = [first + number * window_step for number in range(len(group.host))]
        strides = (shape.strides[1], row_step)
        pairs = tuple(zip(group.device.tolist(), staged, strict=True))
        return self._kernels.plan(
            CopyShape(
                strides=strides,
                row_nums=(shape.row_nums[1], self.row_num),
                slots_per_row=(shape.row_map.slots_per_row or 1, 1),
                row_bytes=shape.row_bytes,
                vector_bytes=access_bytes(
                    shape.row_bytes, *strides, *(address for pair in pairs for address in pair)
                ),
                windows_inside=self._is_row_major,
            ),
            pairs,
            report,
            uses_bulk=True,
        )

    def _blocks(self, address: int, runs: RowRuns, start: int, stop: int) -> Blocks:
        """Return what the copy engine moves for some rows."""
        group, shape = self._group, self._group.shape
        row_step, window_step = self._strides()
        starts, lengths = runs.piece(start, stop)
        windows = np.arange(1 if self._is_row_major else len(group.host))
        staged = (address + windows * window_step, (starts - start) * row_step)
        host = (group.host[windows], runs.rows[starts] * shape.strides[0])
        return blocks_between(staged, host, lengths * row_step)


def can_be_staged(group: RowGroup) -> bool:
    """Return whether runs of rows are blocks of host memory.

    The rows of a plane and layer touch, or all planes and layers of a row do.
    """
    row_bytes, stride = group.shape.row_bytes, group.shape.strides[0]
    if stride == row_bytes:
        return True
    is_joined = bool((np.diff(group.host) == row_bytes).all())
    return is_joined and stride == len(group.host) * row_bytes


def joined_bytes(group: RowGroup) -> int:
    """Return the bytes that each row adds to a block of host memory."""
    shape = group.shape
    return shape.row_bytes if shape.strides[0] == shape.row_bytes else shape.strides[0]
