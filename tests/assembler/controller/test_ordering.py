"""What the streams of the controller wait for."""

import pytest
import torch

from assembler.host_pools.group import PoolTransfer
from assembler.names import PoolName
from tests.assembler.controller.slots import SOURCE, TARGET, read_all, take
from tests.assembler.small_models import (
    fill,
    mha_pool,
    mla_pool,
    nsa_pool,
    params_of,
    poison,
    snapshot,
)
from tests.assembler.stacks.builder_calls import kv_only, shared_anchor

BACKENDS = [
    ("kernel", "layer_first"),
    ("kernel", "page_first"),
    ("direct", "layer_first"),
    ("direct", "page_first_direct"),
]


@pytest.mark.parametrize(("backend", "layout"), BACKENDS)
@pytest.mark.parametrize("make_pool", [mha_pool, mla_pool, nsa_pool])
def test_late_copies_arrive_in_other_slots_and_nowhere_else(delayed, make_pool, backend, layout):
    """Scenario: no copy runs before it has to, the device is poisoned between backup and load."""
    pool = make_pool(delayed)
    params = params_of(pool)
    build = shared_anchor if make_pool is nsa_pool else kv_only
    _, controller = build(params, hicache_io_backend=backend, hicache_mem_layout=layout)
    extra = lambda: (  # noqa: E731 - a fresh transfer for each operation
        [PoolTransfer(PoolName.INDEXER, indices_from_pool=PoolName.KV)]
        if make_pool is nsa_pool
        else None
    )
    fill(pool, 3)
    written = snapshot(pool)

    host_slots = controller.write(take(params, SOURCE), node_id=9, extra_pools=extra())
    assert not controller.ack_write_queue[0].finish_event.query()
    controller.ack_write_queue[0].finish_event.synchronize()
    poison(pool)
    device_slots = controller.load(host_slots, node_id=9, extra_pools=extra())
    controller.layer_done_counter.set_consumer(controller.start_loading())

    assert device_slots.tolist() == TARGET
    assert not controller.ack_load_queue[0].finish_event.query()
    for (plane, layer), rows in read_all(delayed, pool).items():
        unit = 4 if plane == "index_k" else 1
        source, target = [sorted({slot // unit for slot in slots}) for slots in (SOURCE, TARGET)]
        assert torch.equal(rows[target], written[plane, layer][source])
        rows[target] = 0xEE
        assert bool(rows.eq(0xEE).all())


def test_backup_waits_for_the_forward_pass(delayed):
    """Scenario: the rows are still being computed on the current stream when write is called."""
    pool = mha_pool(delayed)
    params = params_of(pool)
    group, controller = kv_only(params)
    slots = take(params, SOURCE)
    delayed.launch(lambda: fill(pool, 5), label="fill", reads=(), writes=())

    host_slots = controller.write(slots)
    controller.write_stream.synchronize()

    host_pool = group.get_pool(PoolName.KV)
    assert torch.equal(host_pool.k_buffer[2, host_slots], pool.k_buffer[2][slots])
    assert bool(pool.k_buffer[2][slots].any())


def test_load_waits_for_earlier_readers_of_its_slots(delayed):
    """Scenario: the last reader of the new slots' old content has not run yet."""
    pool = mha_pool(delayed)
    params = params_of(pool)
    _, controller = kv_only(params)
    fill(pool, 3)
    host_slots = controller.write(take(params, SOURCE))
    controller.ack_write_queue[0].finish_event.synchronize()
    poison(pool, 0x11)
    seen = []
    delayed.launch(lambda: seen.append(pool.k_buffer[0].clone()), label="read", reads=(), writes=())

    controller.load(host_slots)
    controller.start_loading()
    controller.ack_load_queue[0].finish_event.synchronize()

    assert bool(seen[0].view(torch.uint8).eq(0x11).all())


def test_events_and_streams_have_the_names_that_traces_show(delayed):
    params = params_of(mha_pool(delayed))
    _, controller = kv_only(params)
    host_slots = controller.write(take(params, SOURCE), node_id=4)
    controller.load(host_slots, node_id=5)
    producer = controller.start_loading()

    write, load = controller.ack_write_queue[0], controller.ack_load_queue[0]
    assert (write.start_event.name, write.finish_event.name) == ("write.start", "write.finish")
    assert (load.start_event.name, load.finish_event.name) == ("load.start", "load.layer2")
    assert (write.node_ids, load.node_ids, producer) == ([4], [5], 0)
    assert (controller.write_stream.name, controller.load_stream.name) == ("write", "load")


def test_index_tensors_are_held_by_the_copying_stream(delayed):
    params = params_of(mha_pool(delayed))
    _, controller = kv_only(params)
    slots = take(params, SOURCE)

    host_slots = controller.write(slots)

    held = controller.write_stream.held
    assert any(tensor is slots for tensor in held)
    assert any(tensor is host_slots for tensor in held)
    assert len(held) == 4


def test_reset_waits_and_forgets(delayed):
    params = params_of(mha_pool(delayed))
    _, controller = kv_only(params)
    host_slots = controller.write(take(params, SOURCE))
    controller.load(host_slots)
    controller.start_loading()
    controller.load(host_slots)
    acks = [*controller.ack_write_queue, *controller.ack_load_queue]

    controller.reset()

    assert all(ack.finish_event.query() for ack in acks)
    assert controller.load_queue == controller.ack_load_queue == controller.ack_write_queue == []
    assert controller.layer_done_counter.producer_index == -1
