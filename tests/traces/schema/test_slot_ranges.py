"""Slot numbers as text, and back."""

import pytest
import torch

from traces.schema.slot_ranges import parse_slot_ranges, slot_ranges, sorted_slot_ranges


@pytest.mark.parametrize(
    ("slots", "runs"),
    [
        ([], ""),
        ([5], "5"),
        ([64, 65, 66, 192], "64-66,192"),
        ([3, 2, 1], "3,2,1"),
        ([7, 7], "7,7"),
        ([4, 5, 4, 5], "4-5,4-5"),
        (list(range(64, 192)), "64-191"),
        ([*range(100), 300, *range(200, 250), 7], "0-99,300,200-249,7"),
        ([9] * 65, ",".join(["9"] * 65)),
        # More than are remembered.
        ([*range(600), 900, *range(700, 750), 7], "0-599,900,700-749,7"),
        ([9] * 513, ",".join(["9"] * 513)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_slot_runs_keep_the_order_of_use(slots, runs, dtype):
    assert slot_ranges(torch.tensor(slots, dtype=dtype)) == runs


def test_slots_that_change_in_place_have_another_text():
    slots = torch.tensor([1, 2, 3])
    assert slot_ranges(slots) == "1-3"
    slots += 4
    assert slot_ranges(slots) == "5-7"


def test_slots_of_a_set_are_sorted():
    assert sorted_slot_ranges({9, 3, 2, 1}) == "1-3,9"
    assert sorted_slot_ranges(set()) == ""


@pytest.mark.parametrize(
    ("text", "runs"), [("", []), ("5", [(5, 5)]), ("64-66,192,3-4", [(64, 66), (192, 192), (3, 4)])]
)
def test_runs_are_read_back(text, runs):
    assert list(parse_slot_ranges(text)) == runs
