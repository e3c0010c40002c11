import pytest
import torch

from assembler.device import MemoryAccess, StridedRows, row_access, tensor_access
from traces.simulator.byte_spans import byte_spans_of

TABLE = torch.zeros((4, 6), dtype=torch.int16)


@pytest.mark.parametrize(
    ("tensor", "spans"),
    [
        (TABLE, [[0, 48]]),
        (TABLE[1:3], [[12, 36]]),
        (TABLE[:, 1:3], [[2, 6], [14, 18], [26, 30], [38, 42]]),
        (TABLE.t(), [[0, 48]]),
        (TABLE[::2], [[0, 12], [24, 36]]),
        (TABLE[0, ::3], [[0, 2], [6, 8]]),
        (TABLE[2, 2], [[28, 30]]),
        (TABLE[:0], []),
        (TABLE[0:1].expand(3, 6), [[0, 12]]),
        (torch.zeros((2, 3, 4), dtype=torch.uint8)[:, 1:], [[4, 12], [16, 24]]),
    ],
)
def test_tensor_is_its_elements_whatever_its_strides(tensor, spans):
    assert byte_spans_of(tensor_access(tensor)).tolist() == spans


@pytest.mark.parametrize(
    ("rows", "spans"),
    [
        ([], []),
        ([2], [[24, 36]]),
        ([3, 0, 1], [[0, 24], [36, 48]]),
        ([1, 1], [[12, 24]]),
    ],
)
def test_rows_are_sorted_and_joined(rows, spans):
    numbers = torch.tensor(rows, dtype=torch.int64)

    assert byte_spans_of(row_access(TABLE, lambda: numbers)).tolist() == spans


def test_rows_by_address_count_from_the_tensors_first_element():
    rows = StridedRows(
        offset_bytes=4, stride_bytes=10, row_bytes=3, numbers=lambda: torch.tensor([0, 2])
    )

    assert byte_spans_of(MemoryAccess(tensor=TABLE[1:], rows=rows)).tolist() == [[16, 19], [36, 39]]


def test_rows_wider_than_their_stride_overlap():
    rows = StridedRows(
        offset_bytes=0, stride_bytes=2, row_bytes=8, numbers=lambda: torch.tensor([0, 1, 9])
    )

    assert byte_spans_of(MemoryAccess(tensor=TABLE, rows=rows)).tolist() == [[0, 10], [18, 26]]


def test_row_numbers_are_read_when_asked():
    numbers = torch.tensor([0])
    access = row_access(TABLE, lambda: numbers)
    numbers.fill_(1)

    assert byte_spans_of(access).tolist() == [[12, 24]]
