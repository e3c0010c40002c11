"""The ``kernel`` backend: bytes by address, no shape check, asynchronous on a GPU."""

from collections.abc import Callable

import torch
from typing_extensions import override

from assembler.device.access import MemoryAccess, StridedRows
from assembler.errors import TransferError
from assembler.transfer.mover import RowMover
from assembler.transfer.windows import RowWindow

# The field's copy kernels move eight bytes at a time and refuse other row sizes.
WORD_BYTES = 8


class KernelRowMover(RowMover):
    """Copies ``row_bytes`` at ``offset + row * stride`` for every row, on both sides.

    Windows must hold ``base`` as the device addresses it, index tensors must be in device memory.
    Nothing in :meth:`move_rows` waits for the device.

    Source: sglang ``sgl-kernel/csrc/kvcacheio/transfer.cu``.
    """

    @override
    def check(self, *, subject: str, src: RowWindow, dst: RowWindow) -> None:
        for window in (src, dst):
            numbers = (window.offset_bytes, window.stride_bytes, window.row_bytes)
            if any(number % WORD_BYTES for number in numbers):
                raise TransferError(
                    subject,
                    "kernel rows must be aligned",
                    expected=f"offset, stride and row bytes in multiples of {WORD_BYTES}",
                    got=numbers,
                )

    @override
    def move_rows(
        self, *, src: RowWindow, dst: RowWindow, src_rows: torch.Tensor, dst_rows: torch.Tensor
    ) -> None:
        moved = _addressed(src).index_select(0, src_rows)
        _addressed(dst).index_copy_(0, dst_rows, moved)

    @override
    def access(self, *, window: RowWindow, numbers: Callable[[], torch.Tensor]) -> MemoryAccess:
        rows = StridedRows(
            offset_bytes=window.offset_bytes,
            stride_bytes=window.stride_bytes,
            row_bytes=window.row_bytes,
            numbers=numbers,
        )
        return MemoryAccess(tensor=window.base, rows=rows)


def _addressed(window: RowWindow) -> torch.Tensor:
    """Return the rows by address as ``(row_num, row_bytes / 8) int64``."""
    past_first = window.base.numel() - window.offset_bytes - window.row_bytes
    row_num = past_first // window.stride_bytes + 1
    words = window.base[: window.base.numel() // WORD_BYTES * WORD_BYTES].view(torch.int64)
    return words.as_strided(
        (row_num, window.row_bytes // WORD_BYTES),
        (window.stride_bytes // WORD_BYTES, 1),
        words.storage_offset() + window.offset_bytes // WORD_BYTES,
    )
