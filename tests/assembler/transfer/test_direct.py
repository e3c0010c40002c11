import pytest
import torch

from assembler.errors import TransferError
from assembler.transfer.direct import DirectRowMover, _runs
from assembler.transfer.windows import host_window

MOVER = DirectRowMover()


def window(tensor):
    return host_window(buffer=tensor, rows=tensor)


def runs(src, dst, src_rows, dst_rows):
    return list(
        _runs(src=src, dst=dst, src_rows=torch.tensor(src_rows), dst_rows=torch.tensor(dst_rows))
    )


def test_rows_go_where_the_indices_say():
    src, dst = torch.arange(32).view(4, 8), torch.zeros(4, 8, dtype=torch.int64)

    MOVER.move_rows(
        src=window(src),
        dst=window(dst),
        src_rows=torch.tensor([3, 0]),
        dst_rows=torch.tensor([1, 2]),
    )

    assert torch.equal(dst[1], src[3])
    assert torch.equal(dst[2], src[0])
    assert dst[[0, 3]].eq(0).all()


def test_runs_end_where_either_side_jumps():
    rows = window(torch.zeros(20, 4))

    assert runs(rows, rows, [4, 5, 6, 7, 8], [8, 9, 12, 13, 14]) == [(0, 2), (2, 5)]
    assert runs(rows, rows, [4, 5, 6, 9, 10], [0, 1, 2, 3, 4]) == [(0, 3), (3, 5)]
    assert runs(rows, rows, [4, 5, 6], [7, 8, 9]) == [(0, 3)]
    assert runs(rows, rows, [6, 5, 4], [6, 5, 4]) == [(0, 1), (1, 2), (2, 3)]
    assert runs(rows, rows, [], []) == []


def test_strided_rows_are_copied_one_by_one():
    buffer = torch.zeros(20, 3, 4)
    strided, dense = host_window(buffer=buffer, rows=buffer[:, 1]), window(torch.zeros(20, 4))

    assert runs(strided, dense, [4, 5], [4, 5]) == [(0, 1), (1, 2)]
    assert runs(dense, strided, [4, 5], [4, 5]) == [(0, 1), (1, 2)]
    assert runs(dense, dense, [4, 5], [4, 5]) == [(0, 2)]


def test_rows_of_different_widths_raise_torchs_message_and_move_nothing():
    src = torch.ones(4, 1, 656, dtype=torch.uint8)
    dst = torch.zeros(4, 1, 576, dtype=torch.uint8)

    with pytest.raises(
        RuntimeError,
        match=r"^The size of tensor a \(576\) must match the size of tensor b \(656\) "
        r"at non-singleton dimension 2$",
    ):
        MOVER.check(subject="rows", src=window(src), dst=window(dst))

    assert dst.eq(0).all()


def test_rows_of_one_width_pass_and_move_nothing():
    src, dst = torch.ones(4, 1, 656), torch.zeros(5, 1, 656)

    MOVER.check(subject="rows", src=window(src), dst=window(dst))

    assert dst.eq(0).all()


@pytest.mark.parametrize("row", [-1, 4])
def test_row_outside_the_buffer_raises(row):
    tensor = window(torch.zeros(4, 8))
    inside, outside = torch.tensor([0]), torch.tensor([row])

    with pytest.raises(TransferError, match=f"expected 0 to 3, got {row}"):
        MOVER.move_rows(src=tensor, dst=tensor, src_rows=inside, dst_rows=outside)
    with pytest.raises(TransferError, match=f"expected 0 to 3, got {row}"):
        MOVER.move_rows(src=tensor, dst=tensor, src_rows=outside, dst_rows=inside)
