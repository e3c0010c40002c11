"""Slot numbers as text, and back."""

import pytest
import torch

from traces.runs import runs_in, slot_runs, sorted_runs


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
    ],
)
def test_slot_runs_keep_the_order_of_use(slots, runs):
    assert slot_runs(torch.tensor(slots, dtype=torch.int64)) == runs


def test_slots_of_a_set_are_sorted():
    assert sorted_runs({9, 3, 2, 1}) == "1-3,9"
    assert sorted_runs(set()) == ""


@pytest.mark.parametrize(
    ("text", "runs"), [("", []), ("5", [(5, 5)]), ("64-66,192,3-4", [(64, 66), (192, 192), (3, 4)])]
)
def test_runs_are_read_back(text, runs):
    assert list(runs_in(text)) == runs
