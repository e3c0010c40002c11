"""Execution of kernel moves as work of the current stream of the simulated accelerator."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from assembler.device import Device, MemoryAccess, StridedRows, row_access, tensor_access
from traces.simulator.memory import MemoryKind
from traces.targets.common.labels import OperationLabel, place_of
from traces.targets.sglang.shims.interception import InterceptionPause
from traces.targets.sglang.shims.kernel_moves import (
    KernelMove,
    RowAddresses,
    report_kernel_move,
    require,
)
from traces.targets.sglang.shims.kernel_table import TransferKernel
from traces.targets.sglang.shims.tracked_storage import StorageTable


class KernelRunner:
    """Makes shims of kernels, whose copies run on the current stream of ``device``."""

    def __init__(self, *, device: Device, buffers: StorageTable, pause: InterceptionPause) -> None:
        self._device = device
        self._buffers = buffers
        self._pause = pause

    def shim_for(self, kernel: TransferKernel) -> Callable[..., None]:
        """Return a function that copies the same bytes as a kernel."""
        launch = self._launch_direct if kernel.backend == "direct" else self._launch_kernel

        def run(*arguments: object, **named: object) -> None:
            with self._pause:
                moves = kernel.read(*arguments, **named)
                if kernel.backend == "direct" and moves and moves[0].source.slots is None:
                    self._launch_pages(kernel.name, moves)
                    return
                for move in moves:
                    launch(kernel.name, move)

        run.__name__ = run.__qualname__ = kernel.name
        return run

    def _launch_kernel(self, name: str, move: KernelMove) -> None:
        """Launch a copy by address; rows with a negative index on either side are skipped."""
        source, target = self._mapped(move.source), self._mapped(move.target)
        report_kernel_move(move, kernel=name, backend="kernel", stream=self._stream_name)
        indices = (self._indices(move.source, source), self._indices(move.target, target))

        def numbers(side: RowAddresses, own: torch.Tensor) -> torch.Tensor:
            with self._pause:
                is_kept = (indices[0] >= 0) & (indices[1] >= 0)
                rows = side.numbers(own)
                return rows[is_kept.repeat_interleave(rows.numel() // max(own.numel(), 1))]

        def operation() -> None:
            with self._pause:
                source_rows = numbers(move.source, indices[0])
                target_rows = numbers(move.target, indices[1])
                taken = _rows_at_address(source, move.source, move.row_bytes, source_rows)
                put = _rows_at_address(target, move.target, move.row_bytes, target_rows)
                put.index_copy_(0, target_rows, taken[source_rows])

        def access(storage: torch.Tensor, side: RowAddresses, own: torch.Tensor) -> MemoryAccess:
            rows = StridedRows(
                offset_bytes=side.address - storage.data_ptr(),
                stride_bytes=side.stride,
                row_bytes=move.row_bytes,
                numbers=lambda: numbers(side, own),
            )
            return MemoryAccess(tensor=storage, rows=rows)

        slots = (tensor_access(own) for own in indices if self._buffers.is_device(own))
        self._device.launch(
            operation,
            label=self._label(name, source, target),
            reads=(access(source, move.source, indices[0]), *slots),
            writes=(access(target, move.target, indices[1]),),
        )

    def _launch_direct(self, name: str, move: KernelMove) -> None:
        """Launch copies of slices; the host reads the indices, and torch compares the shapes."""
        source, target = _tensor(move.source), _tensor(move.target)
        for tensor in (source, target):
            self._adopt(tensor, name=f"operand of {name}")
        source_rows, target_rows = move.source.rows().tolist(), move.target.rows().tolist()
        if source_rows:
            # An empty copy moves nothing, yet torch compares the rows' shapes first.
            first = _slice(move.source, source, source_rows[0])
            _slice(move.target, target, target_rows[0])[:0].copy_(first[:0])
        _require_inside(move.source, source, source_rows)
        _require_inside(move.target, target, target_rows)
        report_kernel_move(move, kernel=name, backend="direct", stream=self._stream_name)

        def operation() -> None:
            with self._pause:
                for source_row, target_row in zip(source_rows, target_rows, strict=True):
                    taken = _slice(move.source, source, source_row)
                    _slice(move.target, target, target_row).copy_(taken, non_blocking=True)

        self._device.launch(
            operation,
            label=self._label(name, source, target),
            reads=tuple(_slice_accesses(move.source, source, source_rows)),
            writes=tuple(_slice_accesses(move.target, target, target_rows)),
        )

    def _launch_pages(self, name: str, moves: list[KernelMove]) -> None:
        """Launch copies of whole pages by address, page by page; the host reads the indices."""
        pages = [(self._pages(move.source, move), self._pages(move.target, move)) for move in moves]
        first_source, first_target = pages[0]
        for move in moves:
            report_kernel_move(move, kernel=name, backend="direct", stream=self._stream_name)

        def operation() -> None:
            with self._pause:
                for page in range(first_source.rows.numel()):
                    for source, target in pages:
                        target.piece(page).copy_(source.piece(page))

        self._device.launch(
            operation,
            label=self._label(name, first_source.storage, first_target.storage),
            reads=tuple(source.access() for source, _ in pages),
            writes=tuple(target.access() for _, target in pages),
        )

    def _pages(self, side: RowAddresses, move: KernelMove) -> "_StridedRows":
        storage, rows = self._bytes(side), side.rows().clone()
        return _StridedRows(storage=storage, side=side, rows=rows, row_bytes=move.row_bytes)

    def _indices(self, side: RowAddresses, storage: torch.Tensor) -> torch.Tensor:
        """Return a side's indices as the kernel reads them.

        A kernel reads host slots from a copy made at launch, and device slots when it runs.
        """
        if not self._buffers.is_device(storage):
            return side.indices.clone()
        self._adopt(side.indices, name="slots")
        return side.indices

    @property
    def _stream_name(self) -> str:
        return self._device.current_stream().name

    def _bytes(self, side: RowAddresses) -> torch.Tensor:
        """Return the storage of a side's rows."""
        if side.tensor is not None:
            self._adopt(side.tensor, name="operand of a kernel")
        return self._buffers.at(side.address)

    def _mapped(self, side: RowAddresses) -> torch.Tensor:
        """Return the storage of a side's rows; raise where a kernel cannot address it."""
        found = self._bytes(side)
        buffer = self._buffers.find(found)
        require(
            buffer is not None and buffer.kind is not MemoryKind.PAGEABLE,
            "CUDA error: an illegal memory access was encountered (host memory is not page-locked)",
        )
        return found

    def _adopt(self, tensor: torch.Tensor, *, name: str) -> None:
        """Register an unknown tensor as device memory; host pools register theirs."""
        if self._buffers.find(tensor) is None:
            self._buffers.add(tensor, name=name, kind=MemoryKind.DEVICE, is_pool=False)

    def _label(self, kernel: str, source: torch.Tensor, target: torch.Tensor) -> OperationLabel:
        names = [
            "unknown memory" if (buffer := self._buffers.find(tensor)) is None else buffer.name
            for tensor in (source, target)
        ]
        is_backup = self._buffers.is_device(source)
        is_between = is_backup is not self._buffers.is_device(target)
        return OperationLabel(
            f"{kernel} {names[0]} to {names[1]}",
            operation=("backup" if is_backup else "load") if is_between else kernel,
            place=place_of(names[0]) or place_of(names[1]),
        )


def _rows_at_address(
    storage: torch.Tensor, side: RowAddresses, row_bytes: int, rows: torch.Tensor
) -> torch.Tensor:
    """Return rows by address, ``(max row + 1, row_bytes) uint8``."""
    offset = side.address - storage.data_ptr()
    row_num = int(rows.max()) + 1 if rows.numel() else 0
    end = offset + (row_num - 1) * side.stride + row_bytes
    require(
        row_num == 0 or end <= storage.numel(),
        "CUDA error: an illegal memory access was encountered "
        f"(row {row_num - 1} ends at byte {end} of {storage.numel()})",
    )
    return storage.as_strided((row_num, row_bytes), (side.stride, 1), offset)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _StridedRows:
    """Rows that may be longer than their stride, with row numbers from launch time."""

    storage: torch.Tensor
    side: RowAddresses
    rows: torch.Tensor
    row_bytes: int

    @property
    def offset(self) -> int:
        return self.side.address - self.storage.data_ptr()

    def piece(self, number: int) -> torch.Tensor:
        """Return the bytes of one row, beyond its stride if it is longer."""
        start = self.offset + int(self.rows[number]) * self.side.stride
        end, size = start + self.row_bytes, self.storage.numel()
        require(start >= 0 and end <= size, f"cudaMemcpyBatchAsync failed (byte {end} of {size})")
        return self.storage[start:end]

    def access(self) -> MemoryAccess:
        rows = StridedRows(
            offset_bytes=self.offset,
            stride_bytes=self.side.stride,
            row_bytes=self.row_bytes,
            numbers=lambda: self.rows,
        )
        return MemoryAccess(tensor=self.storage, rows=rows)


def _tensor(side: RowAddresses) -> torch.Tensor:
    assert side.tensor is not None, "direct kernels are given tensors"
    return side.tensor


def _slice(side: RowAddresses, tensor: torch.Tensor, row: int) -> torch.Tensor:
    return tensor[row] if side.slots is None else tensor[row : row + side.slots]


def _slice_accesses(
    side: RowAddresses, tensor: torch.Tensor, rows: list[int]
) -> Iterator[MemoryAccess]:
    """Yield the accesses to slices: a single one where each slice is contiguous."""
    if not rows or not tensor[0].is_contiguous():
        yield from (tensor_access(_slice(side, tensor, row)) for row in rows)
        return
    slots = torch.tensor(rows)
    if side.slots is not None:
        slots = (slots.unsqueeze(1) + torch.arange(side.slots)).view(-1)
    yield row_access(tensor, lambda: slots)


def _require_inside(side: RowAddresses, tensor: torch.Tensor, rows: list[int]) -> None:
    """Raise for rows outside a tensor: a slice would be shortened silently."""
    length = 1 if side.slots is None else side.slots
    for row in rows:
        require(
            0 <= row <= tensor.shape[0] - length,
            f"direct copy: rows must lie in the tensor; expected 0 to {tensor.shape[0] - length}, "
            f"got {row}",
        )
