"""Memory accesses: the bytes that an operation touches, for a race detector.

An access names bytes of the tensor's *storage*, so a copy by wrong addresses declares the bytes it
really touches.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StridedRows:
    """Rows by address: row ``r`` begins at ``offset_bytes + r * stride_bytes``.

    Attributes:
        offset_bytes: first byte of row 0, counted from the tensor's first element.
        stride_bytes: bytes from one row to the next.
        row_bytes: bytes of a row.
        numbers: returns the row numbers, ``(row_num,)`` of an integer type; called when the
            operation runs and not before, because they may be computed on the device until then.
    """

    offset_bytes: int
    stride_bytes: int
    row_bytes: int
    numbers: Callable[[], torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MemoryAccess:
    """Bytes that are read or written.

    Attributes:
        tensor: lies in the storage that is touched.
        rows: which rows; None for every element of ``tensor``, whatever its strides.
    """

    tensor: torch.Tensor
    rows: StridedRows | None


Accesses: TypeAlias = tuple[MemoryAccess, ...]


def tensor_access(tensor: torch.Tensor) -> MemoryAccess:
    """Return the access to every element of ``tensor``."""
    return MemoryAccess(tensor=tensor, rows=None)


def row_access(tensor: torch.Tensor, numbers: Callable[[], torch.Tensor]) -> MemoryAccess:
    """Return the access to some contiguous rows of ``tensor``: ``(row_num, *row_shape)``.

    ``numbers`` returns the row numbers; it is called when the operation runs.
    """
    item_bytes = tensor.element_size()
    rows = StridedRows(
        offset_bytes=0,
        stride_bytes=tensor.stride(0) * item_bytes,
        row_bytes=math.prod(tensor.shape[1:]) * item_bytes,
        numbers=numbers,
    )
    return MemoryAccess(tensor=tensor, rows=rows)
