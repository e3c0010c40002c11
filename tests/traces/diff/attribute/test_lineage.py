"""What happens to one pool is not filed under a cause that reaches only another one."""

import pytest

from traces.diff import diff
from traces.schema.model import Allocation, Transfer
from traces.schema.verdict import Kind

POOLS = ("KV", "SWA")


def transfer(pool, **fields):
    known = {
        "step": "load",
        "direction": "load",
        "pool": pool,
        "device_pool": pool,
        "plane": "kv",
        "layer": 0,
        "device_slots": "64-127",
        "host_slots": "0-63",
        "rows": 64,
        "row_bytes": 656,
        "bytes": 64 * 656,
        "backend": "kernel",
        "stream": "load",
    }
    return Transfer(**{**known, **fields})


@pytest.fixture
def stack(records):
    """Return a function that records a stack of two pools, with their transfers and arguments."""

    def recorded(*, swa=None, group=None, handed=None, events=()):
        calls = [records.builder("build#1")]
        for number, (pool, more) in enumerate(zip(POOLS, ({}, swa or {}), strict=True), start=1):
            host = f"{pool}Host#{number}"
            calls += [
                records.call(host, parent="build#1", size=64, **more),
                records.call(
                    f"PoolEntry#{number}", parent="build#1", name=pool, host_pool={"ref": host}
                ),
            ]
        entries = [{"ref": "PoolEntry#1"}, {"ref": "PoolEntry#2"}]
        calls.append(records.call("Group#1", parent="build#1", entries=entries, **(group or {})))
        if handed is not None:
            calls.append(records.call("Controller#1", parent="build#1", **handed))
        tensors = [
            records.tensor(f"host.{pool}", "kv", (64, 656), object=f"{pool}Host#{number}")
            for number, pool in enumerate(POOLS, start=1)
        ]
        return records.trace(*calls, tensors=tuple(tensors), events=tuple(events))

    return recorded


def told(base, head):
    return {
        (cause.kind, cause.parameter or cause.where): [one.where for one in cause.consequences]
        for cause in diff(base, head)
    }


KV, SWA = transfer("KV"), transfer("SWA")
KV_LOST = (Kind.TRANSFER_REMOVED, "load KV.kv layer 0 in load")


def test_lost_transfer_of_another_pool_is_a_cause_of_its_own(stack):
    base = stack(swa={"rows": 8}, events=(KV, SWA))
    head = stack(swa={"row_num": 9}, events=(SWA,))

    found = told(base, head)

    assert found[KV_LOST] == []
    assert all(KV_LOST[1] not in follows for follows in found.values())


def test_lost_transfer_of_the_pool_itself_follows_from_its_argument(stack):
    base = stack(swa={"rows": 8}, events=(KV, SWA))
    head = stack(swa={"rows": 9}, events=(KV,))

    assert told(base, head) == {
        (Kind.ARGUMENT_CHANGED, "rows"): ["load SWA.kv layer 0 in load"],
    }


def test_transfers_that_are_lost_together_follow_from_one_argument(stack):
    base = stack(swa={"rows": 8}, events=(KV, SWA))
    head = stack(swa={"rows": 9})

    assert told(base, head) == {
        (Kind.ARGUMENT_CHANGED, "rows"): [
            "load KV.kv layer 0 in load",
            "load SWA.kv layer 0 in load",
        ],
    }


def test_other_rows_of_one_pool_do_not_lose_the_transfers_of_another(stack):
    base = stack(swa={"rows": 8}, events=(KV, SWA))
    head = stack(swa={"rows": 9}, events=(transfer("SWA", row_bytes=576, bytes=64 * 576),))

    found = told(base, head)

    assert found[KV_LOST] == []
    assert found[Kind.ARGUMENT_CHANGED, "rows"] == ["load SWA.kv layer 0 in load"]


def test_other_slots_of_one_pool_are_felt_by_another(stack):
    moved = {"host_slots": "64-127"}
    base = stack(swa={"rows": 8}, events=(KV, SWA))
    head = stack(swa={"rows": 9}, events=(transfer("KV", **moved), transfer("SWA", **moved)))

    assert len(told(base, head)) == 1


def test_argument_of_the_group_reaches_every_pool(stack):
    base = stack(group={"mode": 1}, events=(KV, SWA))
    head = stack(group={"mode": 2}, events=(SWA,))

    assert told(base, head) == {(Kind.ARGUMENT_CHANGED, "mode"): ["load KV.kv layer 0 in load"]}


BOTH = {"host_pools": [{"ref": "KVHost#1"}, {"ref": "SWAHost#2"}]}


def test_list_of_all_pools_does_not_swallow_what_one_of_them_lost(stack):
    base = stack(handed=BOTH, events=(KV, SWA))
    head = stack(handed={}, events=(SWA,))

    causes = diff(base, head)

    assert [(one.kind, one.parameter or one.where) for one in causes] == [
        KV_LOST,
        (Kind.PARAMETER_REMOVED, "host_pools"),
    ]


def test_list_of_all_pools_explains_what_all_of_them_lost(stack):
    base = stack(handed=BOTH, events=(KV, SWA))
    head = stack(handed={})

    assert told(base, head) == {
        (Kind.PARAMETER_REMOVED, "host_pools"): [
            "load KV.kv layer 0 in load",
            "load SWA.kv layer 0 in load",
        ],
    }


def test_pool_that_is_missing_in_a_list_explains_what_it_lost(stack):
    base = stack(handed=BOTH, events=(KV, SWA))
    head = stack(handed={"host_pools": [{"ref": "SWAHost#2"}]}, events=(SWA,))

    assert told(base, head) == {
        (Kind.ARGUMENT_CHANGED, "host_pools"): ["load KV.kv layer 0 in load"],
    }


def test_allocation_of_one_pool_makes_room_for_transfers_of_another(stack):
    def given(slots):
        return Allocation(step="load", owner="host.SWA", pool="SWA", need=64, slots=slots)

    base = stack(swa={"rows": 8}, events=(given("0-63"), KV, SWA))
    head = stack(swa={"rows": 9}, events=(given(None), SWA))

    assert len(told(base, head)) == 1
