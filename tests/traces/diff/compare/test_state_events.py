"""Locks, owners of slots and collectives that differ."""

from traces.diff import diff
from traces.schema.collectives import Collective
from traces.schema.life import EvictionCount, NodeLocks, PoolBalance
from traces.schema.verdict import Kind, Level


def locks(device=1, node="1000-1007"):
    return NodeLocks(
        step="life", moment="backing_up", node=node, component="FULL", device=device, host=0
    )


def balance(free):
    return PoolBalance(
        step="life",
        moment="backing_up",
        pool="KV",
        side="host",
        total=48,
        free=free,
        cached=16,
        held=0,
        evictable=None,
        protected=None,
        is_final=False,
    )


def test_a_lock_that_is_gone_is_a_cause(records):
    base = records.trace(events=(locks(), locks(node="1000-1015")))
    (cause,) = diff(base, records.trace(events=(locks(),)))

    assert (cause.kind, cause.level) == (Kind.LOCKS_CHANGED, Level.BEHAVIOUR)
    assert cause.where == "locks of FULL of node 1000-1015 when backing_up in life"
    assert (cause.before["device"], cause.after) == (1, None)
    assert diff(base, base) == ()


def test_slots_that_are_no_longer_free_are_a_cause(records):
    (cause,) = diff(records.trace(events=(balance(32),)), records.trace(events=(balance(24),)))

    assert (cause.kind, cause.where) == (
        Kind.BALANCE_CHANGED,
        "slots of host.KV when backing_up in life",
    )
    assert (cause.before["free"], cause.after["free"]) == (32, 24)


def evicted(number, name="num_tokens_evicted"):
    return EvictionCount(step="life", moment="evicted", name=name, number=number)


def test_a_cache_that_counts_less_of_an_eviction_is_a_cause(records):
    base = records.trace(events=(evicted(32), evicted(16, "swa_num_tokens_evicted")))
    (cause,) = diff(base, records.trace(events=(evicted(32), evicted(0, "swa_num_tokens_evicted"))))

    assert (cause.kind, cause.level) == (Kind.BALANCE_CHANGED, Level.BEHAVIOUR)
    assert cause.where == "swa_num_tokens_evicted of an eviction when evicted in life"
    assert (cause.before["number"], cause.after["number"]) == (16, 0)
    assert diff(base, base) == ()


def reduction(group="attn_cp", ranks=(10, 14), shape=(4,)):
    return Collective(
        step="tree",
        operation="all_reduce",
        reduction="MIN",
        group=group,
        ranks=ranks,
        rank=1,
        peer=None,
        dtype="int64",
        shape=shape,
    )


def test_a_reduction_in_another_group_of_the_same_size_is_a_cause(records):
    base = records.trace(events=(reduction(), reduction("attn_tp", (12, 14))))
    head = records.trace(events=(reduction("attn_tp", (12, 14)), reduction("attn_tp", (12, 14))))
    (cause,) = diff(base, head)

    assert (cause.kind, cause.level) == (Kind.COLLECTIVE_CHANGED, Level.BEHAVIOUR)
    assert cause.where == "all_reduce MIN int64 in tree"
    assert cause.before == {"group": "attn_cp", "ranks": (10, 14)}
    assert cause.after == {"group": "attn_tp", "ranks": (12, 14)}


def test_a_reduction_that_a_rank_skips_is_a_cause(records):
    base = records.trace(events=(reduction(), reduction(shape=(2,))))
    (cause,) = diff(base, records.trace(events=(reduction(),)))

    assert (cause.kind, cause.before["shape"], cause.after) == (
        Kind.COLLECTIVE_CHANGED,
        (2,),
        None,
    )


def test_the_same_reductions_are_no_difference(records):
    base, head = (records.trace(events=(reduction(),)) for _ in range(2))

    assert diff(base, head) == ()
