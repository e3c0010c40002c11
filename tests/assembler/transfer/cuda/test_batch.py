import ctypes

import numpy as np
import pytest

from assembler.errors import TransferError
from assembler.transfer.blocks import Blocks
from assembler.transfer.cuda.batch import BatchedCopy


class Driver:
    """Copies host memory by the arguments that ``cuMemcpyBatchAsync`` takes."""

    def __init__(self, *, reports_failing_copy, code=0):
        self.reports_failing_copy = reports_failing_copy
        self.code = code
        self.calls = []

    def __call__(self, dst, src, sizes, count, attributes, first, attribute_num, *rest):
        assert len(rest) == (2 if self.reports_failing_copy else 1)
        arrays = [
            ctypes.cast(array, ctypes.POINTER(ctypes.c_uint64))[: count.value]
            for array in (dst, src, sizes)
        ]
        for to, where, size in zip(*arrays, strict=True):
            ctypes.memmove(to, where, size)
        assert first._obj.value == 0
        order, flags = attributes._obj.src_access_order, attributes._obj.flags
        self.calls.append((count.value, attribute_num.value, order, flags, rest[-1].value))
        return self.code


def blocks(src, dst, sizes):
    return Blocks(src=np.array(src), dst=np.array(dst), sizes=np.array(sizes))


@pytest.mark.parametrize("reports_failing_copy", [False, True])
def test_every_block_is_copied_by_either_signature(reports_failing_copy):
    driver = Driver(reports_failing_copy=reports_failing_copy)
    src, dst = np.arange(100, dtype=np.uint8), np.zeros(100, dtype=np.uint8)
    copy = BatchedCopy(driver, reports_failing_copy=reports_failing_copy)

    copy(blocks([src.ctypes.data + 7], [dst.ctypes.data + 3], [5]), stream=9, is_first=True)

    assert dst[3:8].tolist() == [7, 8, 9, 10, 11]
    assert np.count_nonzero(dst) == 5
    # One attribute for all copies: sources in stream order (1), beside computations (1).
    assert driver.calls == [(1, 1, 1, 1, 9)]


@pytest.mark.parametrize(
    ("is_first", "lengths"), [(True, [32, 128, 512, 512, 16]), (False, [512, 512, 176])]
)
def test_long_lists_are_submitted_in_parts_of_which_the_first_are_short(is_first, lengths):
    driver = Driver(reports_failing_copy=False)
    src, dst = np.arange(1200, dtype=np.uint16).view(np.uint8), np.zeros(2400, dtype=np.uint8)
    at = np.arange(1200)
    every = Blocks(
        src=src.ctypes.data + 2 * at, dst=dst.ctypes.data + 2 * at, sizes=np.full_like(at, 2)
    )

    BatchedCopy(driver, reports_failing_copy=False)(every, stream=9, is_first=is_first)

    assert [call[0] for call in driver.calls] == lengths
    assert np.array_equal(src, dst)


def test_nothing_to_copy_is_no_call():
    driver = Driver(reports_failing_copy=False)

    BatchedCopy(driver, reports_failing_copy=False)(blocks([], [], []), stream=9, is_first=True)

    assert driver.calls == []


def test_a_refusal_of_the_driver_raises():
    driver = Driver(reports_failing_copy=False, code=1)

    with pytest.raises(TransferError, match="expected CUDA_SUCCESS, got error 1"):
        BatchedCopy(driver, reports_failing_copy=False)(
            blocks([0], [0], [0]), stream=9, is_first=True
        )
