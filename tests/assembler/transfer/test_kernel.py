import pytest
import torch

from assembler.errors import TransferError
from assembler.transfer.kernel import KernelRowMover
from assembler.transfer.windows import device_window, host_window

MOVER = KernelRowMover()


def dense(tensor):
    return host_window(buffer=tensor, rows=tensor)


def test_rows_go_where_the_indices_say():
    src, dst = torch.arange(32).view(4, 8), torch.zeros(4, 8, dtype=torch.int64)

    MOVER.move_rows(
        src=dense(src), dst=dense(dst), src_rows=torch.tensor([3, 0]), dst_rows=torch.tensor([1, 2])
    )

    assert torch.equal(dst[1], src[3])
    assert torch.equal(dst[2], src[0])
    assert dst[[0, 3]].eq(0).all()


def test_strided_rows_keep_to_their_layer():
    src = torch.arange(48).view(4, 3, 4)
    dst = torch.zeros(3, 4, 4, dtype=torch.int64)

    MOVER.move_rows(
        src=host_window(buffer=src, rows=src[:, 1]),
        dst=host_window(buffer=dst, rows=dst[2]),
        src_rows=torch.tensor([0, 3]),
        dst_rows=torch.tensor([0, 1]),
    )

    assert dst[2, :2].tolist() == [[4, 5, 6, 7], [40, 41, 42, 43]]
    assert dst[:2].eq(0).all()
    assert dst[2, 2:].eq(0).all()


def test_a_wrong_stride_takes_bytes_of_other_rows():
    """A row of 16 bytes read with a stride of 8: row 1 starts in the middle of row 0."""
    src = torch.arange(8).view(4, 2)
    dst = torch.zeros(4, 1, dtype=torch.int64)

    MOVER.move_rows(
        src=device_window(buffer=src, rows=src, row_bytes=8),
        dst=dense(dst),
        src_rows=torch.tensor([1, 2]),
        dst_rows=torch.tensor([1, 2]),
    )

    assert dst.tolist() == [[0], [1], [2], [0]]


def test_shapes_are_not_compared():
    wide, narrow = torch.zeros(4, 656, dtype=torch.uint8), torch.zeros(4, 576, dtype=torch.uint8)

    MOVER.check(subject="rows", src=dense(wide), dst=dense(narrow))


def test_rows_that_are_not_whole_words_raise():
    src = torch.zeros(4, 132, dtype=torch.uint8)

    with pytest.raises(TransferError, match=r"multiples of 8, got \(0, 132, 132\)"):
        MOVER.check(subject="index", src=dense(src), dst=dense(src))


def test_moving_no_rows_changes_nothing():
    src, dst = torch.ones(4, 8), torch.zeros(4, 8)
    none = torch.tensor([], dtype=torch.int64)

    MOVER.move_rows(src=dense(src), dst=dense(dst), src_rows=none, dst_rows=none)

    assert dst.eq(0).all()


def test_last_row_of_a_buffer_can_be_moved():
    src, dst = torch.arange(48).view(4, 3, 4), torch.zeros(4, 4, dtype=torch.int64)

    MOVER.move_rows(
        src=host_window(buffer=src, rows=src[:, 2]),
        dst=dense(dst),
        src_rows=torch.tensor([3]),
        dst_rows=torch.tensor([3]),
    )

    assert dst[3].tolist() == [44, 45, 46, 47]
