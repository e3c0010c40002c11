"""Batched asynchronous copies of the CUDA driver."""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from assembler.errors import TransferError
from assembler.transfer.blocks import Blocks, Integers
from assembler.transfer.cuda.driver import find_driver

# The driver prepares a whole batch before its first copy begins, 0.7 microseconds for a copy, and
# takes some time for each batch: after a short one the next can be longer.
_FIRST_LENGTH = 32
_GROWTH = 4
_MOST_LENGTH = 512

_IN_STREAM_ORDER = 1
_BESIDE_COMPUTE = 1


class _CopyAttributes(ctypes.Structure):
    """``CUmemcpyAttributes``: when sources are read, hints at locations, flags."""

    _fields_ = (
        ("src_access_order", ctypes.c_int),
        ("src_location", ctypes.c_int * 2),
        ("dst_location", ctypes.c_int * 2),
        ("flags", ctypes.c_uint),
    )


class BatchedCopy:
    """``cuMemcpyBatchAsync`` of the driver in one of its two signatures.

    Args:
        function: the driver's function.
        reports_failing_copy: whether it has the parameter ``failIdx`` (before CUDA 13).
    """

    def __init__(self, function: Callable[..., int], *, reports_failing_copy: bool) -> None:
        self._function = function
        self._fail_arguments: tuple[Any, ...] = ()
        if reports_failing_copy:
            self._fail_arguments = (ctypes.byref(ctypes.c_size_t()),)
        self._attributes = _CopyAttributes(src_access_order=_IN_STREAM_ORDER, flags=_BESIDE_COMPUTE)
        self._first = ctypes.c_size_t(0)

    def __call__(self, blocks: Blocks, *, stream: int, is_first: bool) -> None:
        """Copy blocks between device memory and page-locked host memory.

        Args:
            blocks: what is copied; blocks that are written do not overlap.
            stream: handle of a stream other than the default one, which the driver refuses.
            is_first: whether nothing of the operation is on its way yet.

        Raises:
            TransferError: the driver refuses the copies.

        Order: on ``stream``; the copies of a batch are not ordered among themselves.
        """
        start, length = 0, _FIRST_LENGTH if is_first else _MOST_LENGTH
        while start < len(blocks.sizes):
            part = slice(start, start + length)
            self._submit(blocks.dst[part], blocks.src[part], blocks.sizes[part], stream)
            start, length = start + length, min(_GROWTH * length, _MOST_LENGTH)

    def _submit(self, dst: Integers, src: Integers, sizes: Integers, stream: int) -> None:
        arrays = [np.ascontiguousarray(array) for array in (dst, src, sizes)]
        code = self._function(
            *(ctypes.c_void_p(array.ctypes.data) for array in arrays),
            ctypes.c_size_t(len(sizes)),
            ctypes.byref(self._attributes),
            ctypes.byref(self._first),
            ctypes.c_size_t(1),
            *self._fail_arguments,
            ctypes.c_void_p(stream),
        )
        if code:
            rule = "the driver must take the copies"
            raise TransferError("batched copy", rule, expected="CUDA_SUCCESS", got=f"error {code}")


def find_batched_copy() -> BatchedCopy | None:
    """Return the driver's batched copy; None where the driver has none (before CUDA 12.8)."""
    driver = find_driver()
    if driver is None:
        return None
    # Both names stay exported: the first is the signature of CUDA 13, the second that of 12.8.
    for name, reports_failing_copy in (
        ("cuMemcpyBatchAsync_v2", False),
        ("cuMemcpyBatchAsync", True),
    ):
        function = getattr(driver, name, None)
        if function is not None:
            return BatchedCopy(function, reports_failing_copy=reports_failing_copy)
    return None
