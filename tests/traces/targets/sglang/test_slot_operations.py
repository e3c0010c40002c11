"""What belongs to a slot is followed through every operation on slots that a pool has."""

import pytest
import torch

from traces.targets.common.planes import SlotDomain, planes_of
from traces.targets.sglang.held_pools import HeldPool
from traces.targets.sglang.slot_operations import SlotOperations

SLOTS = 5


class StatePool:
    """A state of each slot, with states of its own registered beside it."""

    def __init__(self):
        self.temporal = torch.zeros(SLOTS + 1, 8)
        self.extra = torch.zeros(SLOTS + 1, 4)
        self.siblings = []
        self.hook = None

    def register_slot_state(self, state):
        self.siblings = [*self.siblings, state]

    def register_mapping(self, mapping):
        raise AssertionError("has no mapping")

    def register_pair(self, one, other):
        raise AssertionError("takes two objects")

    def copy_from(self, src_indices, dst_indices):
        for own in (self.temporal, self.extra):
            own[dst_indices] = own[src_indices]
        for sibling in self.siblings:
            sibling.copy_slots(src_indices, dst_indices)

    def move_rows(self, tgt_loc, src_loc):
        self.temporal[tgt_loc] = self.temporal[src_loc]

    def clear_slots(self, indices):
        self.temporal[indices] = 0
        self.extra[indices] = 0

    def get_cpu_copy(self, indices):
        return self.temporal[indices].clone()

    def load_cpu_copy(self, data, indices):
        self.temporal[indices] = data

    def clear(self):
        for sibling in self.siblings:
            sibling.clear()

    def copy_blocks(self, src_index, dst_index):
        raise NotImplementedError("no blocks")


@pytest.fixture
def records():
    pool = StatePool()
    held = HeldPool(path="states", name="states", pool=pool, outer=())
    domain = SlotDomain(name="MAMBA", slot_num=SLOTS, page_size=1)
    planes = tuple(planes_of("MAMBA", pool, domain, host=None, taken=set()))
    operations = SlotOperations(planes, {id(pool): domain})
    found = tuple(operations.of_pool(held, step="slots"))
    assert pool.siblings == []
    return found


def test_rows_go_along_with_copies_clears_and_copies_to_the_host(records):
    carried = {
        (one.method, one.subject): one.carried for one in records if one.is_plane and not one.reason
    }
    assert carried == {
        ("clear_slots", "MAMBA.extra"): True,
        ("clear_slots", "MAMBA.temporal"): True,
        ("copy_from", "MAMBA.extra"): True,
        ("copy_from", "MAMBA.temporal"): True,
        ("get_cpu_copy", "MAMBA.extra"): False,
        ("get_cpu_copy", "MAMBA.temporal"): True,
        ("move_rows", "MAMBA.extra"): False,
        ("move_rows", "MAMBA.temporal"): True,
    }


def test_an_operation_that_fails_carries_nothing_and_has_a_reason(records):
    failed = {one.subject: (one.carried, one.reason) for one in records if one.reason}
    assert failed == {
        "MAMBA.extra": (False, "NotImplementedError: no blocks"),
        "MAMBA.temporal": (False, "NotImplementedError: no blocks"),
        "register_mapping": (False, "AssertionError: has no mapping"),
        "register_slot_state": (False, "NotImplementedError: no blocks"),
    }


def test_an_object_that_a_pool_refuses_is_recorded_with_the_reason(records):
    refused = {one.reason for one in records if one.subject == "register_mapping"}
    assert refused == {"AssertionError: has no mapping"}


def test_what_is_registered_is_followed_by_the_calls_on_it(records):
    calls = {one.method: one.calls for one in records if one.subject == "register_slot_state"}
    assert calls == {
        "clear": ("clear",),
        "clear_slots": (),
        "copy_blocks": (),
        "copy_from": ("copy_slots",),
        "get_cpu_copy": (),
        "move_rows": (),
    }
    assert {one.subject for one in records if not one.is_plane} == {
        "register_mapping",
        "register_slot_state",
    }
