"""Slots that the script takes for itself: a page, or two where one is a row."""

from types import SimpleNamespace

import pytest
import torch

from traces.targets.sglang.errors import StageError
from traces.targets.sglang.own_slots import OwnSlots

PAGE = 4


class Allocator:
    """Hands out slots from 4 on, in order."""

    def __init__(self, free):
        self.free_slots = list(range(PAGE, PAGE + free))

    def available_size(self):
        return len(self.free_slots)

    def alloc(self, need):
        if need > len(self.free_slots):
            return None
        taken, self.free_slots = self.free_slots[:need], self.free_slots[need:]
        return torch.tensor(taken)

    def free(self, slots):
        self.free_slots += slots.tolist()


class States:
    """One state at a time, whatever the number of pages."""

    def __init__(self):
        self.taken, self.returned = 0, []

    def take_one(self, _domain):
        self.taken += 1
        return torch.tensor([self.taken])

    def return_slots(self, slots):
        self.returned += [slots["MAMBA"].tolist()]


def own_slots(free, states, *, slots_per_row=PAGE):
    allocator = Allocator(free)
    planes = [
        SimpleNamespace(
            domain=SimpleNamespace(name=name), layers=[SimpleNamespace(slots_per_row=number)]
        )
        for name, number in (("KV", 1), ("KV", slots_per_row), ("MAMBA", 1))
    ]
    stack = SimpleNamespace(
        allocator=allocator,
        full_allocator=allocator,
        kvcache=None,
        page_size=PAGE,
    )
    rows = SimpleNamespace(planes=planes, on_host=lambda slots: slots.copy())
    return OwnSlots(stack, rows=rows, transfers=states), allocator


@pytest.mark.parametrize(
    ("free", "first", "second"),
    [
        (16, [4, 5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 16, 17, 18, 19]),
        (15, [4, 5, 6, 7], [8, 9, 10, 11]),
    ],
    ids=["room for two pages each", "one slot too few"],
)
def test_pages_that_are_rows_are_taken_in_twos_where_there_is_room(free, first, second):
    states = States()
    slots, allocator = own_slots(free, states)

    with slots.taken() as taken:
        assert [one.tolist() for one in taken["KV"]] == [first, second]
        assert [one.tolist() for one in taken["MAMBA"]] == [[1], [2]]

    assert allocator.available_size() == free
    assert states.returned == [[1], [2]]


@pytest.mark.parametrize("slots_per_row", [1, PAGE // 2], ids=["one slot", "slots of two ranks"])
def test_a_page_of_several_rows_is_taken_alone(slots_per_row):
    slots, _ = own_slots(16, States(), slots_per_row=slots_per_row)

    with slots.taken() as taken:
        assert [one.tolist() for one in taken["KV"]] == [[4, 5, 6, 7], [8, 9, 10, 11]]


def test_without_room_for_a_page_the_step_fails():
    slots, _ = own_slots(2 * PAGE - 1, States())

    with pytest.raises(StageError, match="KV: an empty device must have slots"), slots.taken():
        pass
