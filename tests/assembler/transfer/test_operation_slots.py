import pytest
import torch

from assembler.device import get_device
from assembler.transfer.operation_slots import OperationSlots
from assembler.transfer.rows import HeadRows, PageRows, RowMap

PAGES = PageRows(subject="pages", page_size=4)


def slots_of(host, device):
    return OperationSlots(
        get_device("cpu"),
        host_indices=torch.tensor(host, dtype=torch.int64),
        device_indices=torch.tensor(device, dtype=torch.int64),
    )


def pages(*numbers):
    return [4 * number + slot for number in numbers for slot in range(4)]


def test_runs_are_in_the_order_of_the_host_and_stay_in_pairs():
    found = slots_of([8, 9, 2, 5, 6], [1, 2, 9, 4, 5]).row_pairs(RowMap(), touches=True)

    assert found.host.tolist() == [2, 5, 8]
    assert found.device.tolist() == [9, 4, 1]
    assert found.lengths.tolist() == [1, 2, 2]
    assert (found.row_num, found.mean_length) == (5, 5 / 3)
    assert found.ends == ((2, 9), (1, 9))


def test_rows_that_do_not_touch_are_in_the_order_of_the_host_too():
    found = slots_of([8, 9, 2], [1, 2, 9]).row_pairs(RowMap(), touches=False)

    assert (found.host.tolist(), found.device.tolist()) == ([2, 8, 9], [9, 1, 2])


def test_slots_that_are_no_whole_pages_are_not_known():
    assert slots_of(pages(2), pages(1)).known_pairs(PAGES, touches=True).host.tolist() == [2]
    assert slots_of([8, 9, 10, 12], pages(1)).known_pairs(PAGES, touches=True) is None


@pytest.mark.parametrize(
    ("row_map", "host", "row_num", "may_have"),
    [
        (RowMap(), list(range(40)), 40, True),
        (RowMap(), list(range(0, 80, 2)), 8, False),
        # Pages of four slots: runs of two rows are there, runs of twenty are not.
        (RowMap(), pages(3, 1, 7, 5, 0, 9), 4, True),
        (RowMap(), pages(3, 1, 7, 5, 0, 9), 20, False),
        (RowMap(), pages(3, 1), 9, False),
        (PAGES, pages(3, 1, 7, 5, 0, 9), 1, True),
        (PAGES, pages(3, 1, 7, 5, 0, 9), 2, False),
        (PAGES, pages(3, 4, 5, 6, 7, 8), 6, True),
        # The rows of a head lie apart.
        (HeadRows(head_num=2, page_size=4), pages(3, 1), 8, False),
        (HeadRows(head_num=2, page_size=4), pages(3, 1), 1, False),
    ],
)
def test_a_few_slots_tell_whether_runs_may_be_long(row_map, host, row_num, may_have):
    assert slots_of(host, host).may_have_runs(row_map, row_num) == may_have


def test_slots_are_counted_where_a_division_makes_rows():
    slots = slots_of(pages(2, 5), pages(1, 3))

    host, device, number = slots.counted(PAGES)
    assert (host.tolist(), device.tolist(), number) == (pages(2, 5), pages(1, 3), 4)

    host, _, number = slots.counted(HeadRows(head_num=2, page_size=4))
    assert (host.tolist()[:4], number) == ([16, 20, 17, 21], 1)
