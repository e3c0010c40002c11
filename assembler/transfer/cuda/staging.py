"""Device memory through which rows move: a kernel on the one side, copy engines on the other.

A kernel that writes host memory in place reaches 0.93 of the speed of a copy engine over PCIe, and
keeps its multiprocessors busy all the while. Between two places in device memory it takes a tenth
of that time; the copy engine then moves large blocks.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from assembler.device.cuda import CudaDevice
from assembler.transfer.blocks import Blocks, RowRuns
from assembler.transfer.cuda.groups import RowGroup, blocks_between
from assembler.transfer.cuda.row_kernel import CopyPlan, CopyShape, launch_copy, make_plan
from assembler.transfer.operation_slots import OperationSlots
from assembler.transfer.windows import access_bytes

_PART_NUM = 4
# The first pieces of a backup are smaller, so that the copy engine begins soon.
_FIRST_SHARE = 8


class StagingRing:
    """Parts of device memory that take turns; work of any stream may use it.

    Attributes:
        part_bytes: bytes of a part.
        stream: where what is not on the caller's stream runs.
        lock: held while work is launched that uses the ring.
    """

    def __init__(self, device: CudaDevice) -> None:
        self.part_bytes = device.staging_bytes // _PART_NUM // 4096 * 4096
        # torch hands out streams of one priority in turns: an ordinary one could be the caller's.
        self.stream = torch.cuda.Stream(device.torch_device, priority=-1)
        self.lock = threading.Lock()
        self._device = device.torch_device
        self._buffer = device.empty((self.part_bytes * _PART_NUM,), torch.uint8)
        # An event that was never recorded is done.
        self._filled = [torch.cuda.Event() for _ in range(_PART_NUM)]
        self._free = [torch.cuda.Event() for _ in range(_PART_NUM)]
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

    def positions(self, number: int) -> torch.Tensor:
        """Return ``0 .. number - 1``, ``(number,) int64`` in device memory."""
        if len(self._positions) < number:
            # Uploaded with the host waiting: later calls use it on other streams.
            self._positions = torch.arange(2 * number).to(self._device)
        return self._positions[:number]

    def run_through(self, part: int, fill: "StreamWork", drain: "StreamWork") -> None:
        """StreamWork what writes a part, and what reads it."""
        fill.stream.wait_event(self._free[part])
        fill.run()
        self._filled[part].record(fill.stream)
        drain.stream.wait_event(self._filled[part])
        drain.run()
        self._free[part].record(drain.stream)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamWork:
    """Work to launch on a stream."""

    stream: torch.cuda.Stream
    run: Callable[[], None]


class StagedGroup:
    """A group of rows that moves through a ring.

    In a part the rows lie as in host memory: those of one plane and layer follow each other, or
    the planes and layers of one row do.

    Args:
        group: the rows.
        ring: the ring.
        loads: the direction.
        copy_blocks: copies blocks on a stream.
    """

    def __init__(
        self,
        group: RowGroup,
        ring: StagingRing,
        *,
        loads: bool,
        copy_blocks: Callable[..., None],
    ) -> None:
        self._group = group
        self._ring = ring
        self._loads = loads
        self._copy_blocks = copy_blocks
        shape = group.shape
        self._is_row_major = shape.strides[0] != shape.row_bytes
        self.row_num = ring.row_num(group)
        self._plans: dict[int, CopyPlan] = {}

    def copy(self, slots: OperationSlots, runs: RowRuns, device: CudaDevice) -> None:
        """Copy the rows of slots; ``runs`` are those of the host pool.

        Order: on the current stream, with work on the ring's stream in between.
        """
        device_rows = slots.rows(self._group.shape.row_map)[1]
        main = torch.cuda.current_stream(device.torch_device)
        with self._ring.lock:
            if slots.begin is None:
                # One event for all layers of a load: later copies to the ring must not wait for
                # earlier layers.
                slots.begin = torch.cuda.Event()
                slots.begin.record(main)
                self._ring.stream.wait_event(slots.begin)
            for start, stop in self._pieces(runs):
                part = self._ring.take()
                blocks = self._blocks(self._ring.address(part), runs, start, stop)
                self._copy_piece(part, blocks, device_rows[start:stop], main=main, device=device)

    def _copy_piece(
        self,
        part: int,
        blocks: Blocks,
        device_rows: torch.Tensor,
        *,
        main: torch.cuda.Stream,
        device: CudaDevice,
    ) -> None:
        ring = self._ring
        plan = self._plans.get(part)
        if plan is None:
            plan = self._plans[part] = self._make_plan(part, device.row_report_word)
        positions = ring.positions(len(device_rows))
        sides = (positions, device_rows) if self._loads else (device_rows, positions)
        kernel_stream, engine_stream = (main, ring.stream) if self._loads else (ring.stream, main)

        def run_kernel() -> None:
            with torch.cuda.stream(kernel_stream):
                launch_copy(
                    plan, src_rows=sides[0], dst_rows=sides[1], programs=device.staging_programs
                )

        kernel = StreamWork(stream=kernel_stream, run=run_kernel)
        engine = StreamWork(
            stream=engine_stream,
            run=partial(self._copy_blocks, blocks, stream=int(engine_stream.cuda_stream)),
        )
        ring.run_through(part, *((engine, kernel) if self._loads else (kernel, engine)))

    def _pieces(self, runs: RowRuns) -> Iterator[tuple[int, int]]:
        """Yield the rows of each piece, ``(start, stop)``; a part has room for it.

        Pieces end where runs end, if they can: the copy engine gets no shorter blocks then.
        """
        size = self.row_num if self._loads else max(1, self.row_num // _FIRST_SHARE)
        start, row_num = 0, len(runs.rows)
        while start < row_num:
            stop = runs.cut_before(start, min(start + size, row_num))
            yield start, stop
            start, size = stop, min(2 * size, self.row_num)

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
        row_nums = (shape.row_nums[1], self.row_num)
        pairs = list(zip(group.device.tolist(), staged, strict=True))
        if self._loads:
            strides, row_nums = strides[::-1], row_nums[::-1]
            pairs = [pair[::-1] for pair in pairs]
        return make_plan(
            CopyShape(
                strides=strides,
                row_nums=row_nums,
                row_bytes=shape.row_bytes,
                vector_bytes=access_bytes(
                    shape.row_bytes, *strides, *(address for pair in pairs for address in pair)
                ),
                windows_inside=self._is_row_major,
            ),
            tuple(pairs),
            report,
        )

    def _blocks(self, address: int, runs: RowRuns, start: int, stop: int) -> Blocks:
        """Return what the copy engine moves for some rows."""
        group, shape = self._group, self._group.shape
        row_step, window_step = self._strides()
        starts, lengths = runs.piece(start, stop)
        windows = np.arange(1 if self._is_row_major else len(group.host))
        staged = (address + windows * window_step, (starts - start) * row_step)
        host = (group.host[windows], runs.rows[starts] * shape.strides[0])
        src, dst = (host, staged) if self._loads else (staged, host)
        return blocks_between(src, dst, lengths * row_step)


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
