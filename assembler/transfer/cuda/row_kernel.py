"""Kernels that copy rows of several windows in one launch, compiled for the GPU that runs them.

Device memory and mapped host memory look alike to them. On GPUs of compute capability 9.0 on, one
warp of a multiprocessor moves rows through its shared memory with bulk copies (``cp.async.bulk``).
Elsewhere, and where rows are not aligned to 16 bytes, threads move them through their registers.
The source is ``row_kernels.cu``.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import gcd

import torch

from assembler.transfer.cuda.compiler import compile_kernels
from assembler.transfer.cuda.driver import DriverFunction, DriverModule

_HEADER_WORDS = 12
# A stage holds a piece on its way. An H200 reads and writes host memory as fast with pieces of 8 kB
# as with larger ones; larger pieces have more room for short rows, of which there are 32 at most.
# Pieces that do not end where a line of 128 bytes ends cost half of the speed.
_STAGE_BYTES = 24 << 10
_STAGE_NUM = 8
_STORES_UNDER_WAY = 2
_PIECE_LINES = 32
_VECTORS_AT_ONCE = 4
LINE_BYTES = 128
_THREADS = 1024
# Measured on an H200, which has 132 multiprocessors.
_MOST_BULK_BLOCKS = 8
_MOST_VECTOR_BLOCKS = 16
_BULK_CAPABILITY = (9, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyShape:
    """Numbers of a copy that are the same for all of its windows; pairs are (read, written).

    Attributes:
        strides: bytes from one row to the next.
        row_nums: rows that each window has.
        slots_per_row: slots of a row: row ``i`` is slot ``i * slots_per_row`` divided by it.
        row_bytes: bytes of a row.
        vector_bytes: 8 or 16; all addresses, strides and widths are multiples of it.
        windows_inside: whether the windows of a row follow each other in host memory; otherwise the
            rows of a window do.
    """

    strides: tuple[int, int]
    row_nums: tuple[int, int]
    slots_per_row: tuple[int, int]
    row_bytes: int
    vector_bytes: int
    windows_inside: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CopyPlan:
    """A copy as a kernel reads it.

    Attributes:
        kernel: the kernel.
        most_blocks: more blocks than these do not read or write host memory faster.
        units_per_pair: what a row of all windows has of what the kernel counts: lines or vectors.
        units_per_turn: how many of them a block moves at once.
        table: twelve numbers, then the addresses of row 0 of every window, read and written; int64
            in device memory.
    """

    kernel: DriverFunction
    most_blocks: int
    units_per_pair: int
    units_per_turn: int
    table: torch.Tensor

    def launch(
        self, *, src_slots: int, dst_slots: int, pair_num: int, programs: int, stream: int
    ) -> None:
        """Copy rows in every window, in pairs by their position.

        Args:
            src_slots: address of ``(pair_num * slots_per_row,) int64`` in device memory.
            dst_slots: likewise; rows that are written are distinct.
            pair_num: rows of a window.
            programs: thread blocks at most, each on a multiprocessor of its own.
            stream: handle of the stream.

        Raises:
            TransferError: the driver refuses the launch.
        """
        needed = -(-pair_num * self.units_per_pair // self.units_per_turn)
        if needed:
            self.kernel.launch(
                *(self.table.data_ptr(), src_slots, dst_slots, pair_num),
                blocks=min(programs, needed),
                stream=stream,
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowKernels:
    """The kernels of one GPU.

    Attributes:
        bulk: bulk copies of 16 bytes and their multiples; None where the GPU has none.
        vectors: copies through registers, by the bytes that a thread moves at once.
    """

    bulk: DriverFunction | None
    vectors: dict[int, DriverFunction]

    def plan(
        self,
        shape: CopyShape,
        addresses: tuple[tuple[int, int], ...],
        report: torch.Tensor,
        *,
        uses_bulk: bool,
    ) -> CopyPlan:
        """Return a plan for windows with these addresses of row 0; the host waits for its upload.

        Args:
            shape: what the windows have in common.
            addresses: of row 0 of each, read and written.
            report: ``(1,) int64``, of the device and written by it: what
                :class:`~assembler.device.row_report.RowReport` reads. A row outside of its window
                is reported there and not moved.
            uses_bulk: whether bulk copies move the rows, where the GPU has them and the rows fit.
        """
        kernel = self.bulk if uses_bulk and shape.vector_bytes % 16 == 0 else None
        segment, lines, most_blocks = shape.row_bytes, 1, _MOST_VECTOR_BLOCKS
        units = (shape.row_bytes // shape.vector_bytes, _THREADS * _VECTORS_AT_ONCE)
        if kernel is None:
            kernel = self.vectors[shape.vector_bytes]
        else:
            segment, lines = pieces_of(shape.row_bytes)
            units, most_blocks = (-(-shape.row_bytes // segment), lines), _MOST_BULK_BLOCKS
        header = (
            *(len(addresses), *shape.strides, *shape.row_nums, *shape.slots_per_row),
            *(shape.row_bytes, segment, lines, int(shape.windows_inside), report.data_ptr()),
        )
        assert len(header) == _HEADER_WORDS
        words = [*header, *(address for pair in addresses for address in pair)]
        return CopyPlan(
            kernel=kernel,
            most_blocks=most_blocks,
            units_per_pair=units[0] * len(addresses),
            units_per_turn=units[1],
            table=torch.tensor(words, dtype=torch.int64).to(report.device),
        )


def pieces_of(row_bytes: int) -> tuple[int, int]:
    """Return the bytes of the segments of a row, and how many of them are a piece.

    Pieces of rows that touch end where a line of 128 bytes does, if they can.
    """
    segments = -(-row_bytes // _STAGE_BYTES)
    step = 16 if segments == 1 else LINE_BYTES
    segment = -(-row_bytes // (segments * step)) * step
    lines = max(1, min(_PIECE_LINES, _STAGE_BYTES // segment))
    whole = LINE_BYTES // gcd(segment, LINE_BYTES)
    return segment, lines // whole * whole or lines


@cache
def row_kernels(ordinal: int) -> RowKernels:
    """Return the kernels of a GPU, compiled when they are first asked for.

    Raises:
        TransferError: there is no compiler, or the GPU does not take the kernels.
    """
    capability = torch.cuda.get_device_capability(ordinal)
    image = compile_kernels(
        files("assembler.transfer.cuda").joinpath("row_kernels.cu").read_text(encoding="utf-8"),
        capability=capability,
        definitions={
            "HEADER_WORDS": _HEADER_WORDS,
            "STAGE_NUM": _STAGE_NUM,
            "STAGE_BYTES": _STAGE_BYTES,
            "STORES_UNDER_WAY": _STORES_UNDER_WAY,
            "VECTORS_AT_ONCE": _VECTORS_AT_ONCE,
        },
    )
    module = DriverModule(image, ordinal=ordinal)
    bulk = None
    if capability >= _BULK_CAPABILITY:
        size = _STAGE_NUM * _STAGE_BYTES
        bulk = module.function("copy_in_bulk", threads=_PIECE_LINES, shared_bytes=size)
    vectors = {
        size: module.function(f"copy_{size}_bytes", threads=_THREADS, shared_bytes=0)
        for size in (8, 16)
    }
    return RowKernels(bulk=bulk, vectors=vectors)
