import threading

import pytest
import torch

from assembler.accelerator import get_device
from assembler.controller.hybrid import HybridCacheController
from assembler.errors import AssemblyError, TransferError
from assembler.groups import LocalGroup
from assembler.host_pools.group import PoolTransfer
from assembler.names import PoolName
from assembler.params import ServerArgs
from assembler.stacks import build_kv_host_pool, build_kv_only_stack
from assembler.walls import without_walls
from tests.assembler.models import (
    fill,
    mamba_params,
    mha_pool,
    mla_pool,
    nsa_pool,
    params_of,
    poison,
    rows_as_bytes,
    snapshot,
)
from tests.assembler.stacks.calls import kv_only, mamba, shared_anchor

SOURCE, TARGET = [4, 5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 16, 17, 18, 19]
BACKENDS = [
    ("kernel", "layer_first"),
    ("kernel", "page_first"),
    ("direct", "layer_first"),
    ("direct", "page_first_direct"),
]


def read_all(device, pool):
    """Read every row on the current stream, after waiting for each layer as attention does."""
    rows = {}
    for (plane, layer), buffer in [
        ((plane.name, layer), pool.plane_buffer(plane=plane.name, layer=layer))
        for geometry in pool.declared_geometry()
        for plane in geometry.planes
        for layer in range(pool.layer_num)
    ]:
        pool.wait_for_layer(pool.start_layer + layer)
        rows[plane, layer] = device.read(rows_as_bytes(buffer))
    return rows


def take(params, slots):
    """Let the allocator hand out exactly ``slots``, its first ones."""
    taken = params.token_to_kv_pool_allocator.alloc(len(slots))
    assert taken.tolist() == slots
    return taken


def test_every_constructor_argument_is_kept():
    pool = mha_pool(get_device("cpu"))
    params = params_of(pool)
    group, _ = kv_only(params)
    event, config = threading.Event(), {"a": 1}
    tp, cp, attn_tp = (LocalGroup(tag, (0, 1, 2), 1) for tag in ("tp", "cp", "attn_tp"))

    controller = HybridCacheController(
        params.token_to_kv_pool_allocator,
        group,
        4,
        tp,
        event,
        attn_cp_group=cp,
        attn_tp_group=attn_tp,
        write_policy="write_back",
        io_backend="direct",
        storage_backend="file",
        prefetch_threshold=77,
        model_name="m",
        storage_backend_extra_config=config,
        pp_rank=1,
        pp_size=2,
        transfer_layer_num=5,
        enable_storage_metrics=True,
    )

    assert controller.mem_pool_device_allocator is params.token_to_kv_pool_allocator
    assert controller.mem_pool_device is pool
    assert controller.mem_pool_host is group
    assert (controller.page_size, controller.tp_group, controller.load_cache_event) == (
        4,
        tp,
        event,
    )
    assert (controller.attn_cp_group, controller.attn_tp_group) == (cp, attn_tp)
    assert (controller.attn_cp_rank, controller.attn_cp_size) == (1, 3)
    assert (controller.write_policy, controller.io_backend) == ("write_back", "direct")
    assert (controller.storage_backend, controller.prefetch_threshold) == ("file", 77)
    assert (controller.model_name, controller.storage_backend_extra_config) == ("m", config)
    assert (controller.pp_rank, controller.pp_size, controller.layer_num) == (1, 2, 5)
    assert controller.enable_storage_metrics is True


def test_defaults_are_the_fields_and_need_an_io_backend():
    params = params_of(mha_pool(get_device("cpu")))
    group, _ = kv_only(params)
    arguments = (params.token_to_kv_pool_allocator, group, 4, None, None)

    with pytest.raises(TransferError, match=r"io backend: must be known; .*, got ''"):
        HybridCacheController(*arguments)

    controller = HybridCacheController(*arguments, io_backend="kernel")
    assert controller.write_policy == "write_through_selective"
    assert (controller.attn_cp_rank, controller.attn_cp_size) == (0, 1)
    assert (controller.layer_num, controller.prefetch_threshold) == (3, 256)


def test_unknown_write_policy_raises():
    params = params_of(mha_pool(get_device("cpu")))
    with pytest.raises(AssemblyError, match=r"write policy: must be known; .*, got 'never'"):
        kv_only(params, hicache_write_policy="never")


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
    delayed.launch(lambda: fill(pool, 5), reads=(), writes=())

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
    delayed.launch(lambda: seen.append(pool.k_buffer[0].clone()), reads=(), writes=())

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


def test_several_loads_start_as_one():
    params = params_of(mha_pool(get_device("cpu")))
    _, controller = kv_only(params)
    first = controller.write(take(params, [4, 5, 6, 7]), node_id=1)
    second = controller.write(take(params, [8, 9, 10, 11]), node_id=2)
    controller.load(first, node_id=1)
    controller.load(second, node_id=2, priority=-1)

    assert controller.start_loading() == 0
    assert controller.start_loading() == -1
    assert [ack.node_ids for ack in controller.ack_load_queue] == [[2, 1]]


def test_fourth_load_in_flight_raises_and_stays_queued(delayed):
    params = params_of(mha_pool(delayed))
    _, controller = kv_only(params)
    host_slots = controller.write(take(params, [4, 5, 6, 7]))
    for _ in range(3):
        controller.load(host_slots)
        controller.start_loading()
    controller.load(host_slots)

    with pytest.raises(TransferError, match="at most 3 loads in flight"):
        controller.start_loading()

    assert len(controller.load_queue) == 1
    controller.load_stream.synchronize()
    assert controller.start_loading() == 0


def test_full_host_answers_none():
    params = params_of(mha_pool(get_device("cpu")))
    group, controller = kv_only(params)
    group.alloc(group.available_size())

    assert controller.write(take(params, [4, 5, 6, 7])) is None
    assert controller.write_queue == []


def test_full_device_answers_none():
    params = params_of(mha_pool(get_device("cpu")))
    _, controller = kv_only(params)
    host_slots = controller.write(take(params, [4, 5, 6, 7]))
    params.token_to_kv_pool_allocator.alloc(60)

    assert controller.load(host_slots) is None
    assert controller.load_queue == []


def test_full_sidecar_gives_the_anchors_host_slots_back():
    params = mamba_params(get_device("cpu"))
    group, controller = mamba(params)
    states = group.get_pool(PoolName.MAMBA)
    states.alloc(states.available_size())
    transfer = PoolTransfer(PoolName.MAMBA, device_indices=torch.tensor([1]))

    assert controller.write(take(params, [4, 5, 6, 7]), extra_pools=[transfer]) is None

    assert group.available_size() == group.size
    assert transfer.host_indices is None


def test_full_sidecar_gives_the_anchors_device_slots_back():
    params = mamba_params(get_device("cpu"))
    _, controller = mamba(params)
    state = PoolTransfer(PoolName.MAMBA, device_indices=torch.tensor([1]))
    host_slots = controller.write(take(params, [4, 5, 6, 7]), extra_pools=[state])
    params.req_to_token_pool.mamba_allocator.alloc(8)
    free = params.token_to_kv_pool_allocator.available_size()

    transfer = PoolTransfer(PoolName.MAMBA, host_indices=state.host_indices)
    assert controller.load(host_slots, extra_pools=[transfer]) is None

    assert params.token_to_kv_pool_allocator.available_size() == free


def test_unknown_sidecar_raises_and_leaks_nothing():
    params = params_of(mha_pool(get_device("cpu")))
    group, controller = kv_only(params)
    transfer = PoolTransfer(PoolName.SWA, device_indices=torch.arange(4))
    with pytest.raises(TransferError, match="expected one of kv, got swa"):
        controller.write(take(params, [4, 5, 6, 7]), extra_pools=[transfer])

    assert group.available_size() == group.size
    assert controller.write_queue == []


def test_sidecar_can_be_loaded_alone():
    params = mamba_params(get_device("cpu"))
    _, controller = mamba(params)
    pool = params.req_to_token_pool.mamba_pool
    state = PoolTransfer(PoolName.MAMBA, device_indices=torch.tensor([1]))
    pool.temporal[:, 1] = 5.0
    host_slots = controller.write(take(params, [4, 5, 6, 7]), extra_pools=[state])

    transfer = PoolTransfer(PoolName.MAMBA, host_indices=state.host_indices)
    device_slots = controller.load(host_slots[:0], extra_pools=[transfer])
    controller.start_loading()

    assert device_slots.tolist() == []
    assert bool(pool.temporal[:, transfer.device_indices].eq(5.0).all())


@pytest.fixture
def narrow_stack(delayed):
    """A float8 NSA device pool, 656 bytes a row, over a host that believes in 576."""
    pool = nsa_pool(delayed)
    params = params_of(pool)
    with without_walls():
        group, controller = build_kv_only_stack(
            params=params,
            server_args=ServerArgs(hicache_io_backend="direct"),
            kv_pool=pool,
            full_layer_mapping={0: 0, 1: 1, 2: 2},
            page_size=4,
            tp_group=None,
            load_cache_event=None,
            storage_backend=None,
            use_mla=True,
        )
    return params, group, controller


def test_failed_backup_gives_host_slots_back_and_empties_the_queue(narrow_stack):
    """Scenario of #25022 behind opened walls; there the slots leaked."""
    params, group, controller = narrow_stack
    message = r"The size of tensor a \(576\) must match the size of tensor b \(656\)"
    with pytest.raises(RuntimeError, match=message):
        controller.write(take(params, SOURCE))

    assert group.available_size() == group.size
    assert (controller.write_queue, controller.ack_write_queue) == ([], [])


def test_failed_load_gives_device_slots_back_and_empties_the_queue(narrow_stack):
    params, group, controller = narrow_stack
    free = params.token_to_kv_pool_allocator.available_size()
    controller.load(group.alloc(8))

    message = r"The size of tensor a \(656\) must match the size of tensor b \(576\)"
    with pytest.raises(RuntimeError, match=message):
        controller.start_loading()

    assert params.token_to_kv_pool_allocator.available_size() == free
    assert (controller.load_queue, controller.ack_load_queue) == ([], [])


def test_evicting_frees_slots_on_either_side():
    params = params_of(mha_pool(get_device("cpu")))
    group, controller = kv_only(params)
    device_slots = take(params, [4, 5, 6, 7])
    host_slots = controller.write(device_slots)

    assert controller.evict_device(device_slots) == 4
    assert controller.evict_host(host_slots) == 4
    assert params.token_to_kv_pool_allocator.available_size() == 64
    assert group.available_size() == group.size


def test_host_eviction_other_than_of_backups_raises():
    params = params_of(mha_pool(get_device("cpu")))
    _, controller = kv_only(params)
    with pytest.raises(TransferError, match="host slots hold backups only"):
        controller.evict_host(torch.arange(4), backup_only=False)


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


def draft_of(device, params, group, *, layer_num=2, head_dim=8):
    """Return a draft device pool and a host pool on the anchor's slots."""
    pool = mha_pool(device, layer_num=layer_num, head_dim=head_dim)
    host_pool = build_kv_host_pool(
        kv_pool=pool,
        page_size=4,
        server_args=ServerArgs(hicache_ratio=group.size / pool.size),
        use_mla=False,
        override_kv_cache_dim=None,
    )
    return pool, host_pool


def test_draft_travels_both_ways_on_the_anchors_slots(delayed):
    """Scenario: sglang #27953, where the hybrid controller copied no draft at all."""
    params = params_of(mha_pool(delayed))
    group, controller = kv_only(params)
    draft, draft_host = draft_of(delayed, params, group)
    controller.set_draft_kv_pool(draft, draft_host)
    fill(draft, 7)
    written = snapshot(draft)

    host_slots = controller.write(take(params, SOURCE))
    controller.ack_write_queue[0].finish_event.synchronize()
    poison(draft)
    controller.load(host_slots)
    controller.layer_done_counter.set_consumer(controller.start_loading())

    for key, rows in read_all(delayed, draft).items():
        assert torch.equal(rows[TARGET], written[key][SOURCE])
        rows[TARGET] = 0xEE
        assert bool(rows.eq(0xEE).all())


def test_stack_without_draft_copies_none(delayed):
    """Control of the test above."""
    params = params_of(mha_pool(delayed))
    group, controller = kv_only(params)
    _, draft_host = draft_of(delayed, params, group)
    draft_host.kv_buffer.fill_(0)

    controller.write(take(params, SOURCE))
    delayed.synchronize()

    assert not draft_host.kv_buffer.any()


def test_draft_with_more_layers_than_a_load_raises(delayed):
    params = params_of(mha_pool(delayed))
    group, controller = kv_only(params)
    draft, draft_host = draft_of(delayed, params, group, layer_num=4)
    with pytest.raises(
        AssemblyError, match=r"DRAFT: every draft layer.*expected 3 layers or fewer"
    ):
        controller.set_draft_kv_pool(draft, draft_host)


def test_draft_host_of_another_width_raises(delayed):
    params = params_of(mha_pool(delayed))
    group, controller = kv_only(params)
    _, draft_host = draft_of(delayed, params, group)
    wide, _ = draft_of(delayed, params, group, head_dim=16)
    message = "DRAFT k: host row must equal device row; expected 64 bytes, got 32"
    with pytest.raises(AssemblyError, match=message):
        controller.set_draft_kv_pool(wide, draft_host)


def test_draft_host_smaller_than_the_anchors_raises(delayed):
    params = params_of(mha_pool(delayed))
    group, controller = kv_only(params, hicache_ratio=4.0)
    draft, _ = draft_of(delayed, params, group)
    _, small_host = draft_of(delayed, params, kv_only(params)[0])
    with pytest.raises(AssemblyError, match="every anchor slot; expected 260 slots or more"):
        controller.set_draft_kv_pool(draft, small_host)


def test_sparse_draft_with_an_unmirrored_index_raises(delayed):
    params = params_of(nsa_pool(delayed))
    _, controller = shared_anchor(params)
    draft_host = controller.mem_pool_host.get_pool(PoolName.KV)
    message = "DRAFT INDEXER: declared device buffer must have a host pool; expected a pool, got"
    with pytest.raises(AssemblyError, match=message):
        controller.set_draft_kv_pool(nsa_pool(delayed), draft_host)


@pytest.mark.parametrize(
    ("backend", "layout", "host", "device"),
    [
        ("kernel", "layer_first", [8, 4], [1, 2]),
        ("direct", "layer_first", [4, 8], [2, 1]),
        ("direct", "page_first_direct", [8, 4], [1, 2]),
    ],
)
def test_indices_are_sorted_for_direct_layer_first_only(backend, layout, host, device):
    params = params_of(mha_pool(get_device("cpu")))
    _, controller = kv_only(params, hicache_io_backend=backend, hicache_mem_layout=layout)

    moved = controller.move_indices(torch.tensor([8, 4]), torch.tensor([1, 2]))

    assert [side.tolist() for side in moved] == [host, device]
