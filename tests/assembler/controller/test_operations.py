import torch

from assembler.collectives import CacheRanks, CollectiveRole
from assembler.controller.operations import (
    CacheOperation,
    HiCacheAck,
    merge_operations,
    take_finished,
)
from assembler.device import get_device
from assembler.host_pools.group import PoolTransfer
from assembler.host_pools.resolve import Grant
from assembler.names import PoolHitPolicy, PoolName

ALONE = {"ranks": CacheRanks(groups=()), "role": CollectiveRole.WRITE_ACKS}


def operation(node_id, *, priority=0, transfers=()):
    return CacheOperation(
        host_indices=torch.tensor([node_id]),
        device_indices=torch.tensor([10 + node_id]),
        node_ids=(node_id,),
        priority=priority,
        pool_transfers=tuple(transfers),
        grants=(Grant(),),
    )


def transfer(name, first, **settings):
    indices = torch.tensor([first])
    return PoolTransfer(name, host_indices=indices, device_indices=indices + 50, **settings)


def test_single_operation_stays_as_it_is():
    single = operation(1)

    assert merge_operations([single]) is single


def test_merged_operation_keeps_pairs_and_order_of_arrival():
    merged = merge_operations([operation(1), operation(2)])

    assert merged.host_indices.tolist() == [1, 2]
    assert merged.device_indices.tolist() == [11, 12]
    assert merged.node_ids == (1, 2)
    assert len(merged.grants) == 2


def test_lower_priority_goes_first():
    merged = merge_operations([operation(1, priority=5), operation(2, priority=3)])

    assert merged.node_ids == (2, 1)
    assert merged.priority == 3


def test_transfers_merge_by_pool_and_source_of_indices():
    one = [
        transfer(PoolName.SWA, 1, hit_policy=PoolHitPolicy.TRAILING_PAGES, keys=["a"]),
        transfer(PoolName.INDEXER, 2, indices_from_pool=PoolName.KV),
    ]
    two = [
        transfer(PoolName.SWA, 3, hit_policy=PoolHitPolicy.TRAILING_PAGES),
        transfer(PoolName.INDEXER, 4, indices_from_pool=PoolName.SWA),
    ]

    merged = merge_operations([operation(1, transfers=one), operation(2, transfers=two)])

    swa, from_kv, from_swa = merged.pool_transfers
    assert (swa.host_indices.tolist(), swa.device_indices.tolist()) == ([1, 3], [51, 53])
    assert (swa.hit_policy, swa.keys) == (PoolHitPolicy.TRAILING_PAGES, ["a"])
    assert (from_kv.indices_from_pool, from_swa.indices_from_pool) == (PoolName.KV, PoolName.SWA)


def test_merging_leaves_the_callers_transfers_alone():
    mine = transfer(PoolName.SWA, 1)

    merge_operations([operation(1, transfers=[mine]), operation(2, transfers=[mine])])

    assert mine.host_indices.tolist() == [1]


def test_giving_back_frees_what_each_request_took():
    freed = []
    merged = merge_operations([operation(1), operation(2)])
    for number, grant in enumerate(merged.grants):
        grant.take(need=1, alloc=torch.arange, free=lambda _, n=number: freed.append(n), evict=None)

    merged.give_back()

    assert freed == [1, 0]


def ack(device, node_id, stream=None):
    event = device.new_event("write.finish")
    if stream is not None:
        event.record(stream)
    return HiCacheAck(event, event, [node_id])


def test_finished_acknowledgements_are_taken_in_launch_order(delayed):
    stream = delayed.new_stream("write")
    queue = [ack(delayed, 1), ack(delayed, 2, stream), ack(delayed, 3)]

    assert take_finished(queue, block=False, **ALONE) == [1]
    stream.synchronize()
    assert take_finished(queue, block=False, **ALONE) == [2, 3]
    assert queue == []


def test_what_another_rank_has_not_finished_stays():
    class OtherRank(CacheRanks):
        def minimum(self, values, *, role):
            assert (values, role) == ([2], CollectiveRole.LOAD_ACKS)
            return [1]

    cpu = get_device("cpu")
    queue = [ack(cpu, 1), ack(cpu, 2)]
    other = {"ranks": OtherRank(groups=()), "role": CollectiveRole.LOAD_ACKS}

    assert take_finished(queue, block=False, **other) == [1]
    assert [one.node_ids for one in queue] == [[2]]


def test_blocking_takes_all(delayed):
    queue = [ack(delayed, 1, delayed.new_stream("write"))]

    assert take_finished(queue, block=True, **ALONE) == [1]


def test_embedded_device_has_always_finished():
    assert take_finished([ack(get_device("cpu"), 7)], block=False, **ALONE) == [7]
