import ctypes
from collections.abc import Sequence

import pytest
import torch

from assembler.errors import TransferError
from assembler.transfer.cuda import compiler
from assembler.transfer.cuda.driver import DriverFunction
from assembler.transfer.cuda.row_kernel import CopyShape, RowKernels, pieces_of


class Driver:
    """Takes launches, and reads what it is given as ``cuLaunchKernel`` would."""

    def __init__(self, code=0):
        self.code = code
        self.launches = []

    def cuLaunchKernel(self, handle, *others):
        *sizes, shared_bytes, stream, pointers, extra = others
        values = [
            ctypes.cast(pointer, ctypes.POINTER(ctypes.c_longlong))[0] for pointer in pointers
        ]
        assert extra is None
        numbers = [size.value for size in sizes]
        self.launches.append((handle.value, numbers, shared_bytes.value, stream.value, values))
        return self.code


def function(driver):
    return DriverFunction(driver, ctypes.c_void_p(77), threads=32, shared_bytes=4096)


def kernels(driver):
    made = function(driver)
    return RowKernels(bulk=made, vectors={8: made, 16: made})


def plan(driver, *, has_bulk, row_bytes, vector_bytes, windows: Sequence[tuple[int, int]]):
    shape = CopyShape(
        strides=(row_bytes, 2 * row_bytes),
        row_nums=(7, 9),
        slots_per_row=(1, 4),
        row_bytes=row_bytes,
        vector_bytes=vector_bytes,
        windows_inside=True,
    )
    report = torch.zeros(1, dtype=torch.int64)
    return report, kernels(driver).plan(shape, tuple(windows), report, uses_bulk=has_bulk)


def test_a_launch_hands_its_numbers_to_the_driver():
    driver = Driver()

    function(driver).launch(5, 1 << 40, blocks=6, stream=9)

    assert driver.launches == [(77, [6, 1, 1, 32, 1, 1], 4096, 9, [5, 1 << 40])]


def test_a_launch_that_the_driver_refuses_raises():
    with pytest.raises(TransferError, match=r"kernel launch: .* got error 700$"):
        function(Driver(code=700)).launch(5, blocks=1, stream=9)


def test_the_table_has_the_numbers_and_the_addresses():
    report, made = plan(
        Driver(),
        has_bulk=True,
        row_bytes=656,
        vector_bytes=16,
        windows=[(1000, 2000), (3000, 4000)],
    )

    assert made.table.tolist() == [
        *(2, 656, 1312, 7, 9, 1, 4, 656, 656, 32, 1, report.data_ptr()),
        *(1000, 2000, 3000, 4000),
    ]


@pytest.mark.parametrize(
    ("has_bulk", "row_bytes", "vector_bytes", "pairs", "blocks"),
    [
        # 32 rows at once, of two windows.
        (True, 656, 16, 16, 1),
        (True, 656, 16, 17, 2),
        # Two rows of 8448 bytes in a stage, six segments in a row of 131072.
        (True, 8448, 16, 3, 3),
        (True, 131072, 16, 1, 12),
        (True, 131072, 16, 100, 20),
        # 4096 vectors at once.
        (False, 656, 16, 49, 1),
        (False, 656, 16, 50, 2),
        (True, 648, 8, 25, 1),
        (True, 648, 8, 26, 2),
    ],
)
def test_a_copy_has_no_more_blocks_than_it_needs(has_bulk, row_bytes, vector_bytes, pairs, blocks):
    driver = Driver()
    _, made = plan(
        driver,
        has_bulk=has_bulk,
        row_bytes=row_bytes,
        vector_bytes=vector_bytes,
        windows=[(1000, 2000), (3000, 4000)],
    )

    made.launch(src_slots=11, dst_slots=12, pair_num=pairs, programs=20, stream=9)

    assert [launch[1][0] for launch in driver.launches] == [blocks]
    assert driver.launches[0][4] == [made.table.data_ptr(), 11, 12, pairs]


def test_no_rows_are_no_launch():
    driver = Driver()
    _, made = plan(driver, has_bulk=True, row_bytes=656, vector_bytes=16, windows=[(1000, 2000)])

    made.launch(src_slots=11, dst_slots=12, pair_num=0, programs=20, stream=9)

    assert driver.launches == []


@pytest.mark.parametrize(
    ("row_bytes", "segment", "lines"),
    [
        (16, 16, 32),
        (656, 656, 32),
        (8448, 8448, 2),
        # Eleven rows would fit; eight end where a line of 128 bytes ends.
        (2064, 2064, 8),
        (24576, 24576, 1),
        (24592, 12416, 1),
        (41984, 20992, 1),
        (1000000, 24448, 1),
    ],
)
def test_pieces_have_whole_rows_or_segments(row_bytes, segment, lines):
    assert pieces_of(row_bytes) == (segment, lines)


def test_without_a_compiler_there_are_no_kernels(monkeypatch):
    monkeypatch.setattr(compiler, "find_compiler", lambda: None)

    with pytest.raises(TransferError, match="NVRTC must be installed"):
        compiler.compile_kernels("", capability=(9, 0), definitions={})
