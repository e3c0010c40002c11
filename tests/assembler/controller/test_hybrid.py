import threading

import pytest
import torch

from assembler.controller.hybrid import HybridCacheController
from assembler.device import get_device
from assembler.errors import AssemblyError, TransferError
from assembler.groups import LocalGroup
from assembler.host_pools.group import PoolTransfer
from assembler.names import PoolName
from assembler.params import ServerArgs
from assembler.stacks import build_kv_only_stack
from assembler.validation import validation_disabled
from tests.assembler.controller.slots import SOURCE, take
from tests.assembler.small_models import mamba_params, mha_pool, nsa_pool, params_of
from tests.assembler.stacks.builder_calls import kv_only, mamba


def test_every_constructor_argument_is_kept():
    pool = mha_pool(get_device("cpu"))
    params = params_of(pool)
    group, _ = kv_only(params)
    event, config = threading.Event(), {"prefetch_timeout_max": 1}
    tp, cp, attn_tp = (LocalGroup(tag, (0, 1, 2), 1) for tag in ("tp", "cp", "attn_tp"))
    pp = LocalGroup("pp", (1, 4), 1)

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
        pp_group=pp,
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
    assert controller.pp_group is pp
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


def test_stage_follows_from_the_pipeline_group():
    params = params_of(mha_pool(get_device("cpu")))
    group, _ = kv_only(params)
    arguments = (params.token_to_kv_pool_allocator, group, 4, None, None)
    third = {"io_backend": "kernel", "pp_group": LocalGroup("pp", (0, 2, 4, 6), 2)}

    for given in ({}, {"pp_rank": 2, "pp_size": 4}):
        controller = HybridCacheController(*arguments, **third, **given)
        assert (controller.pp_rank, controller.pp_size) == (2, 4)
    rule = r"pp_group: must be the group of the pipeline stage; expected stage 1 of 4, got 2 of 4"
    with pytest.raises(AssemblyError, match=rule):
        HybridCacheController(*arguments, **third, pp_rank=1, pp_size=4)


def test_unknown_write_policy_raises():
    params = params_of(mha_pool(get_device("cpu")))
    with pytest.raises(AssemblyError, match=r"write policy: must be known; .*, got 'never'"):
        kv_only(params, hicache_write_policy="never")


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
    with validation_disabled():
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
