"""Byte ranges of a storage that an access touches."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from assembler.device.access import MemoryAccess, StridedRows

ByteSpans: TypeAlias = npt.NDArray[np.int64]
"""``(span_num, 2)``: first byte and byte after the last; sorted, apart from each other."""


def byte_spans_of(access: MemoryAccess) -> ByteSpans:
    """Return the bytes of the storage that an access touches; reads its row numbers now."""
    tensor = access.tensor
    first_byte = tensor.storage_offset() * tensor.element_size()
    # Row numbers may be written by earlier device work, so they are read when the access runs.
    if access.rows is None and tensor.is_contiguous():
        stop_byte = first_byte + tensor.numel() * tensor.element_size()
        is_empty = stop_byte == first_byte
        return np.array([(first_byte, stop_byte)][is_empty:], np.int64).reshape(-1, 2)
    if access.rows is None:
        starts, span_bytes = _element_blocks(tensor)
    else:
        starts, span_bytes = _row_starts(access.rows), access.rows.row_bytes
    return _merged(starts + int(first_byte), span_bytes)


def _row_starts(rows: StridedRows) -> npt.NDArray[np.int64]:
    numbers: npt.NDArray[np.int64] = rows.numbers().numpy().astype(np.int64, copy=False)
    return numbers * rows.stride_bytes + rows.offset_bytes


def _element_blocks(tensor: torch.Tensor) -> tuple[npt.NDArray[np.int64], int]:
    """Return where the contiguous blocks of a tensor begin, and the bytes of each."""
    starts: npt.NDArray[np.int64] = np.zeros(min(tensor.numel(), 1), np.int64)
    block_bytes = tensor.element_size()
    axes = zip(tensor.stride(), tensor.shape, strict=True)
    for stride, size in sorted((stride * tensor.element_size(), size) for stride, size in axes):
        if stride == block_bytes and starts.size == 1:
            block_bytes *= size
        elif stride != 0 and size > 1:
            steps = np.arange(size, dtype=np.int64) * stride
            starts = (starts[:, None] + steps).ravel()
    return starts, block_bytes


def _merged(starts: npt.NDArray[np.int64], span_bytes: int) -> ByteSpans:
    """Join spans of one length that touch or overlap."""
    if starts.size == 0 or span_bytes == 0:
        return np.zeros((0, 2), np.int64)
    starts = np.sort(starts)
    is_first = np.concatenate(([True], starts[1:] > starts[:-1] + span_bytes))
    is_last = np.concatenate((is_first[1:], [True]))
    return np.stack((starts[is_first], starts[is_last] + span_bytes), axis=1)
