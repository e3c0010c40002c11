import pytest
import torch

from assembler.errors import TransferError
from assembler.transfer.rows import HeadRows, PageRows, RowMap

PAGES = PageRows(subject="index", page_size=4)


def test_a_slot_is_a_row():
    slots = torch.tensor([5, 3])

    assert RowMap().host_rows(slots) is slots
    assert RowMap().device_rows(slots) is slots
    assert RowMap().row_num(2) == 2
    RowMap().check(slots)


def test_a_page_is_a_row():
    slots = torch.tensor([8, 9, 10, 11, 4, 5, 6, 7])

    PAGES.check(slots)

    assert PAGES.host_rows(slots).tolist() == [2, 1]
    assert PAGES.device_rows(slots).tolist() == [2, 1]
    assert PAGES.row_num(8) == 2


def test_no_slots_are_no_pages():
    slots = torch.tensor([], dtype=torch.int64)

    PAGES.check(slots)

    assert PAGES.host_rows(slots).tolist() == []
    assert PAGES.row_num(0) == 0


def test_part_of_a_page_raises():
    with pytest.raises(
        TransferError,
        match=r"^index: transfers must be whole pages; expected a multiple of 4 slots, got 6$",
    ):
        PAGES.row_num(6)


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ([5, 6, 7, 8], "expected slot 4 at position 0, got slot 5"),
        ([4, 5, 7, 6], "expected slot 6 at position 2, got slot 7"),
        ([4, 5, 6, 7, 8, 9, 10, 12], "expected slot 11 at position 7, got slot 12"),
    ],
)
def test_slots_that_are_not_one_aligned_page_raise(slots, message):
    with pytest.raises(TransferError, match=message):
        PAGES.check(torch.tensor(slots))


def test_a_slot_is_a_row_for_each_head():
    rows = HeadRows(head_num=3, page_size=4)
    slots = torch.tensor([5, 8])
    rows.check(slots)

    # Slot 5 is slot 1 of page 1: (1 * 3 + head) * 4 + 1; slot 8 is slot 0 of page 2.
    assert rows.host_rows(slots).tolist() == [13, 17, 21, 24, 28, 32]
    assert rows.device_rows(slots).tolist() == [15, 16, 17, 24, 25, 26]
    assert rows.row_num(2) == 6
