"""The ``direct`` backend: slice copies of tensors, whose shapes torch checks."""

from collections.abc import Callable, Iterator

import torch
from typing_extensions import override

from assembler.device.access import MemoryAccess, row_access, tensor_access
from assembler.device.base import Device
from assembler.errors import TransferError
from assembler.transfer.blocks import Integers, row_runs
from assembler.transfer.mover import RowMover
from assembler.transfer.slot_pairs import SlotPairs
from assembler.transfer.windows import RowWindow


class DirectRowMover(RowMover):
    """Backend that copies runs of rows, contiguous on both sides, a slice at a time.

    Index tensors must be in host memory.

    Source: sglang ``sgl-kernel/csrc/kvcacheio/transfer.cu`` (``transfer_kv_direct``).
    """

    @override
    def admit(
        self, accelerator: Device, slots: SlotPairs, *, host: RowWindow, label: str
    ) -> tuple[MemoryAccess, ...]:
        check_on_host(slots)
        reads = tuple(
            tensor_access(tensor) for tensor in (slots.host_indices, slots.device_indices)
        )
        accelerator.host_access(label=f"{label}: read slots", reads=reads, writes=())
        slots.check()
        return ()

    @override
    def addressed(self, accelerator: Device, window: RowWindow) -> RowWindow:
        # torch's copy finds the address of pinned memory itself; the tensor stays a host tensor.
        return window

    @override
    def check(self, *, subject: str, src: RowWindow, dst: RowWindow) -> None:
        if dst.tensor.shape[1:] == src.tensor.shape[1:]:
            return
        # An empty copy moves nothing, yet torch compares the rows' shapes first.
        dst.tensor[:0].copy_(src.tensor[:0])

    @override
    def move_rows(
        self, *, src: RowWindow, dst: RowWindow, src_rows: torch.Tensor, dst_rows: torch.Tensor
    ) -> None:
        check_inside(src_rows.numpy(), src.tensor.shape[0])
        check_inside(dst_rows.numpy(), dst.tensor.shape[0])
        for start, stop in _runs(src=src, dst=dst, src_rows=src_rows, dst_rows=dst_rows):
            taken = _run_of(src, src_rows, start, stop)
            # Without non_blocking the host would wait for each run. With pageable memory it may
            # wait all the same: the driver stages such copies.
            _run_of(dst, dst_rows, start, stop).copy_(taken, non_blocking=True)

    @override
    def access(self, *, window: RowWindow, numbers: Callable[[], torch.Tensor]) -> MemoryAccess:
        return row_access(window.tensor, numbers)


def _runs(
    *, src: RowWindow, dst: RowWindow, src_rows: torch.Tensor, dst_rows: torch.Tensor
) -> Iterator[tuple[int, int]]:
    """Yield ``(start, stop)`` positions of the index tensors that are one block on both sides."""
    # Strided rows are not one block of memory: torch would gather several of them into a pageable
    # temporary first, and such a copy blocks the host. One row is one block.
    touches = src.is_dense and dst.is_dense
    starts, lengths = row_runs(src_rows.numpy(), dst_rows.numpy(), touches=touches)
    yield from zip(starts.tolist(), (starts + lengths).tolist(), strict=True)


def _run_of(window: RowWindow, rows: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    first = int(rows[start])
    return window.tensor[first : first + stop - start]


def check_on_host(slots: SlotPairs) -> None:
    """Raise TransferError for slots that do not lie in host memory."""
    for tensor in (slots.host_indices, slots.device_indices):
        # Slice bounds are Python integers: reading them from device memory would make the host
        # wait for the stream at every run of rows.
        if not tensor.is_cpu:
            rule = "direct needs slots in host memory"
            raise TransferError(slots.subject, rule, expected="cpu", got=tensor.device)


def check_inside(rows: Integers, row_num: int) -> None:
    """Raise TransferError for rows that slicing would cut off silently."""
    if len(rows) == 0 or (rows.min() >= 0 and rows.max() < row_num):
        return
    outside = rows[(rows < 0) | (rows >= row_num)]
    rule, expected = "rows must lie in the buffer", f"0 to {row_num - 1}"
    raise TransferError("direct copy", rule, expected=expected, got=int(outside[0]))
