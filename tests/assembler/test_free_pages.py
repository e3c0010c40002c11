import threading

import pytest
import torch

from assembler.errors import PoolError
from assembler.free_pages import FreePageList


@pytest.fixture
def ledger():
    """Pages 1 to 3 of 4 slots: slots 4 to 15."""
    return FreePageList(subject="pool", first_page=1, page_num=3, page_size=4)


def test_pages_are_taken_in_ascending_order(ledger):
    assert ledger.available() == 12
    assert ledger.take(8).tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    assert ledger.available() == 4


def test_taking_nothing_gives_an_empty_tensor(ledger):
    taken = ledger.take(0)

    assert taken.tolist() == []
    assert taken.dtype == torch.int64


def test_taking_too_much_gives_none_and_takes_nothing(ledger):
    assert ledger.take(16) is None
    assert ledger.available() == 12


def test_taking_part_of_a_page_raises(ledger):
    with pytest.raises(
        PoolError, match=r"^pool: slots must be whole pages; expected 4 \* n, got 6$"
    ):
        ledger.take(6)


def test_taking_a_negative_number_raises(ledger):
    with pytest.raises(PoolError, match="got -4"):
        ledger.take(-4)


def test_freed_pages_are_taken_last(ledger):
    first, second = ledger.take(4), ledger.take(4)

    assert ledger.give_back(second) == 4
    assert ledger.give_back(first) == 4

    assert ledger.take(12).tolist() == [12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7]


def test_slots_of_a_page_may_come_back_in_any_order(ledger):
    ledger.take(8)

    ledger.give_back(torch.tensor([11, 9, 8, 10, 7, 4, 6, 5]))

    assert ledger.take(12).tolist() == [12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7]


def test_giving_back_nothing_is_allowed(ledger):
    assert ledger.give_back(torch.tensor([], dtype=torch.int64)) == 0


def test_double_free_raises_and_frees_nothing(ledger):
    pages = ledger.take(8)
    ledger.give_back(pages[:4])

    with pytest.raises(
        PoolError, match=r"^pool: slot must be in use to be freed; expected in use, got 4 free$"
    ):
        ledger.give_back(pages)

    assert ledger.available() == 8


def test_slot_given_twice_in_one_call_raises(ledger):
    pages = ledger.take(4)

    with pytest.raises(PoolError, match=r"freed once; expected once, got 4 repeated$"):
        ledger.give_back(torch.cat([pages, pages]))


@pytest.mark.parametrize("slot", [-1, 0, 3, 16])
def test_foreign_slot_raises(ledger, slot):
    ledger.take(12)

    with pytest.raises(PoolError, match=rf"pool's own; expected 4 to 15, got {slot}$"):
        ledger.give_back(torch.tensor([slot]))


def test_part_of_a_page_raises_and_frees_nothing(ledger):
    ledger.take(12)

    with pytest.raises(PoolError, match=r"freed whole; expected all 4 slots, got part of page 2$"):
        ledger.give_back(torch.tensor([4, 5, 6, 7, 8, 9]))

    assert ledger.available() == 0


def test_clear_makes_everything_free_in_order(ledger):
    ledger.give_back(ledger.take(4))
    ledger.take(8)

    ledger.clear()

    assert ledger.take(12).tolist() == list(range(4, 16))


def test_threads_never_get_the_same_slot():
    ledger = FreePageList(subject="pool", first_page=0, page_num=400, page_size=1)
    taken = []

    def take_some():
        for _ in range(100):
            taken.append(int(ledger.take(1)))

    threads = [threading.Thread(target=take_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(taken) == list(range(400))
