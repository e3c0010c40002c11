"""Slots without one owner, wrong counts and locks that are left."""

import pytest

from traces.audit.balance import unbalanced_pools
from traces.schema.life import NodeLocks, PoolBalance


def found_in(made, *digests):
    recording = made.recording("a", made.call("HostPoolGroup#1", {}), events=digests)
    return [
        (cause.where, cause.before, cause.after) for cause in unbalanced_pools({"a": recording})
    ]


def balance(**changes):
    """The balance of a device pool of 48 slots, when everything is over."""
    fields = {"free": 30, "cached": 16, "held": 2, "evictable": 12, "protected": 4}
    return PoolBalance(
        step="life",
        moment="end",
        pool="KV",
        side="device",
        total=48,
        **{**fields, "is_final": True, **changes},
    )


def locks(**changes):
    fields = {"node": "1000-1007", "component": "FULL", "device": 1, "host": 0}
    return NodeLocks(**{"step": "life", "moment": "end", **fields, **changes})


def test_slots_with_one_owner_each_are_balanced(made):
    assert found_in(made, balance()) == []


@pytest.mark.parametrize(("changes", "got"), [({"free": 29}, 47), ({"held": 10}, 56)])
def test_slots_without_an_owner_or_with_two_are_found(made, changes, got):
    assert found_in(made, balance(**changes)) == [("slots of device.KV in life", 48, got)]


def test_a_count_that_is_not_what_the_nodes_have_is_found(made):
    assert found_in(made, balance(evictable=4)) == [("counts of device.KV", 16, 8)]


def test_a_cache_that_counts_nothing_has_no_wrong_count(made):
    assert found_in(made, balance(evictable=None, protected=None)) == []


def test_a_lock_is_found_when_everything_is_over_and_not_before(made):
    assert found_in(made, locks(), balance()) == [("device locks of FULL", 0, 1)]
    assert found_in(made, locks(device=0, host=2), balance()) == [("host locks of FULL", 0, 2)]
    assert found_in(made, locks(), balance(is_final=False)) == []
