"""The ``kernel`` backend: copies by address, without shape checks, asynchronous on a GPU."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from typing_extensions import override

from assembler.device.access import MemoryAccess, StridedRows, tensor_access
from assembler.device.base import Device
from assembler.errors import TransferError
from assembler.transfer.mover import RowMover
from assembler.transfer.slot_pairs import SlotPairs
from assembler.transfer.windows import RowWindow

# The field's copy kernels move eight bytes at a time and refuse other row sizes.
WORD_BYTES = 8


class KernelRowMover(RowMover):
    """Backend that copies ``row_bytes`` at ``offset + row * stride`` for every row.

    Windows must hold ``base`` as the device addresses it, index tensors must be in device memory.
    Nothing in :meth:`move_rows` waits for the device.

    Source: sglang ``sgl-kernel/csrc/kvcacheio/transfer.cu``.
    """

    def __init__(self) -> None:
        # Both cost more than all the rest of a launch, and do not change while a window lives.
        self._mapped: WeakKeyDictionary[RowWindow, RowWindow] = WeakKeyDictionary()

    @override
    def admit(
        self, accelerator: Device, slots: SlotPairs, *, host: RowWindow, label: str
    ) -> tuple[MemoryAccess, ...]:
        # A kernel that gets a pageable address fails only when it runs, with an illegal memory
        # access that makes the CUDA context unusable; here the pool can still be named.
        if host not in self._mapped and not accelerator.is_pinned(host.base):
            rule = "kernel needs page-locked host memory"
            raise TransferError(slots.subject, rule, expected="pinned", got="pageable")
        indices = (slots.host_indices, slots.device_indices)
        for tensor in indices:
            if tensor.device != accelerator.torch_device:
                rule = "kernel needs slots in device memory"
                raise TransferError(
                    slots.subject, rule, expected=accelerator.torch_device, got=tensor.device
                )
        # The kernel reads the slots when it runs, so they must outlive the launch: declared reads
        # are held until the stream has passed them.
        return tuple(tensor_access(tensor) for tensor in indices)

    @override
    def addressed(self, accelerator: Device, window: RowWindow) -> RowWindow:
        mapped = self._mapped.get(window)
        if mapped is None:
            mapped = self._mapped[window] = window.mapped_by(accelerator)
        return mapped

    @override
    def check(self, *, subject: str, src: RowWindow, dst: RowWindow) -> None:
        for window in (src, dst):
            numbers = (window.offset_bytes, window.stride_bytes, window.row_bytes)
            if any(number % WORD_BYTES for number in numbers):
                rule = "kernel rows must be aligned"
                expected = f"offset, stride and row bytes in multiples of {WORD_BYTES}"
                raise TransferError(subject, rule, expected=expected, got=numbers)

    @override
    def move_rows(
        self, *, src: RowWindow, dst: RowWindow, src_rows: torch.Tensor, dst_rows: torch.Tensor
    ) -> None:
        # index_select and index_copy_ run on the current stream and read the rows on the device;
        # advanced indexing with a boolean mask, or item(), would synchronise.
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
    # as_strided checks the span against the storage, not the rows against the shape: the stride may
    # be the other pool's, and then rows run into each other without an error, as in the field.
    past_first = window.base.numel() - window.offset_bytes - window.row_bytes
    row_num = past_first // window.stride_bytes + 1
    words = window.base[: window.base.numel() // WORD_BYTES * WORD_BYTES].view(torch.int64)
    return words.as_strided(
        (row_num, window.row_bytes // WORD_BYTES),
        (window.stride_bytes // WORD_BYTES, 1),
        words.storage_offset() + window.offset_bytes // WORD_BYTES,
    )
