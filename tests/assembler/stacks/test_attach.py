import threading

import pytest
import torch

from assembler.cache.hiradix import HiMambaRadixCache, HiRadixCache
from assembler.cache.unified import UnifiedRadixCache
from assembler.device import get_device
from assembler.errors import AssemblyError
from assembler.groups import LocalGroup
from assembler.host_pools.group import SidecarPoolSpec
from assembler.names import ComponentType, PoolName
from assembler.owner import EvictParams
from assembler.params import ServerArgs
from assembler.stacks.attach import (
    attach_hybrid_nsa_pool_to_hiradix_cache,
    attach_hybrid_pool_to_mamba_cache,
    attach_hybrid_pool_to_unified_cache,
)
from tests.assembler.small_models import (
    mamba_params,
    mha_pool,
    mla_pool,
    nsa_pool,
    params_of,
    swa_params,
)

CPU = get_device("cpu")
GROUPS = {
    "tp_cache_group": LocalGroup("tp", (0, 1), 0),
    "attn_cp_cache_group": LocalGroup("cp", (0, 1, 2), 2),
    "attn_tp_cache_group": LocalGroup("attn_tp", (0, 1), 1),
    "pp_cache_group": LocalGroup("pp", (1, 3), 1),
}
GROUP_NAMES = ("tp_group", "attn_cp_group", "attn_tp_group", "pp_group")
UNIFIED = {
    "mha": (lambda **kw: params_of(mha_pool(CPU), **kw), [PoolName.KV]),
    "mla": (lambda **kw: params_of(mla_pool(CPU), **kw), [PoolName.KV]),
    "nsa": (lambda **kw: params_of(nsa_pool(CPU), **kw), [PoolName.KV, PoolName.INDEXER]),
    "swa": (lambda **kw: swa_params(CPU, **kw), [PoolName.KV, PoolName.SWA]),
    "mamba": (lambda **kw: mamba_params(CPU, **kw), [PoolName.KV, PoolName.MAMBA]),
}


@pytest.mark.parametrize("family", UNIFIED)
def test_unified_attach_builds_the_familys_stack_and_passes_everything_on(family):
    make_params, pools = UNIFIED[family]
    params = make_params(pp_rank=1, pp_size=2, enable_metrics=True, **GROUPS)
    cache, event = UnifiedRadixCache(params), threading.Event()

    attach_hybrid_pool_to_unified_cache(
        cache,
        params,
        ServerArgs(served_model_name="m", hicache_storage_backend="file"),
        load_cache_event=event,
        attn_cp_group=params.attn_cp_cache_group,
        attn_tp_group=params.attn_tp_cache_group,
    )

    controller = cache.cache_controller
    assert list(cache.host_pool_group.entry_map) == pools
    assert tuple(getattr(controller, name) for name in GROUP_NAMES) == tuple(GROUPS.values())
    assert (controller.attn_cp_rank, controller.attn_cp_size) == (2, 3)
    assert (controller.pp_rank, controller.pp_size, controller.load_cache_event) == (1, 2, event)
    assert (controller.model_name, controller.enable_storage_metrics) == ("m", True)
    assert (controller.storage_backend, controller.page_size) == (None, 4)


@pytest.mark.parametrize(("fp8", "width"), [(True, 656), (False, 576)])
def test_unified_attach_gives_sparse_rows_the_devices_width(fp8, width):
    params = params_of(nsa_pool(CPU, fp8=fp8))
    cache = UnifiedRadixCache(params)

    attach_hybrid_pool_to_unified_cache(cache, params, ServerArgs(), load_cache_event=None)

    assert cache.host_pool_group.get_pool(PoolName.KV).kv_buffer.shape[-1] == width
    assert cache.sidecar_pool_specs == [SidecarPoolSpec(PoolName.INDEXER, PoolName.KV)]


def test_unified_attach_gives_packed_latent_rows_the_devices_width():
    """Control: rows with scales, but without an index, are a plain pool."""
    params = params_of(mla_pool(CPU, dtype=torch.float8_e4m3fn, override=656))
    cache = UnifiedRadixCache(params)

    attach_hybrid_pool_to_unified_cache(cache, params, ServerArgs(), load_cache_event=None)

    assert cache.host_pool_group.get_pool(PoolName.KV).kv_buffer.shape[-1] == 656


def attach_nsa(params, **server):
    server_args = ServerArgs(
        served_model_name="m",
        hicache_storage_backend="file",
        **server,
    )
    cache, event = HiRadixCache(params, server_args), threading.Event()
    attach_hybrid_nsa_pool_to_hiradix_cache(
        cache,
        params,
        server_args,
        extra_config={"prefetch_timeout_max": 1},
        prefetch_threshold=33,
        enable_storage_metrics=True,
        load_cache_event=event,
        attn_cp_group=params.attn_cp_cache_group,
        attn_tp_group=params.attn_tp_cache_group,
    )
    return cache, event


@pytest.mark.parametrize(("fp8", "width"), [(True, 656), (False, 576)])
def test_nsa_attach_gives_host_rows_the_devices_width(fp8, width):
    """Regression: sglang #25022, ``override_kv_cache_dim`` lost in a refactor.

    Scenario: float8 rows carry scales, 512 + 16 + 128 = 656 bytes; the bfloat16 control has
    512 + 64 = 576 elements, where a lost override changes nothing.
    """
    cache, _ = attach_nsa(params_of(nsa_pool(CPU, fp8=fp8)))

    assert cache.full_kv_pool_host.kv_buffer.shape[-1] == width


def test_nsa_attach_passes_everything_on():
    params = params_of(nsa_pool(CPU, start_layer=31), pp_rank=1, pp_size=2, **GROUPS)

    cache, event = attach_nsa(params, hicache_io_backend="direct")

    controller = cache.cache_controller
    assert cache.token_to_kv_pool_host is controller.mem_pool_host
    assert tuple(getattr(controller, name) for name in GROUP_NAMES) == tuple(GROUPS.values())
    assert (controller.storage_backend, controller.storage_backend_extra_config) == (
        "file",
        {"prefetch_timeout_max": 1},
    )
    assert (controller.prefetch_threshold, controller.enable_storage_metrics) == (33, True)
    assert (controller.model_name, controller.load_cache_event) == ("m", event)
    assert (controller.pp_rank, controller.pp_size, controller.layer_num) == (1, 2, 3)
    assert cache.sidecar_pool_specs == [SidecarPoolSpec(PoolName.INDEXER, PoolName.KV)]


def test_nsa_attach_to_another_pool_raises():
    with pytest.raises(
        AssemblyError, match="expected a pool with index keys, got MLATokenToKVPool"
    ):
        attach_nsa(params_of(mla_pool(CPU)))


def attach_mamba(params):
    server_args = ServerArgs(served_model_name="m", hicache_storage_backend="file")
    cache, event = HiMambaRadixCache(params, server_args), threading.Event()
    attach_hybrid_pool_to_mamba_cache(
        cache,
        params,
        server_args,
        extra_config={"prefetch_timeout_max": 1},
        prefetch_threshold=33,
        load_cache_event=event,
        enable_storage_metrics=True,
        attn_cp_group=params.attn_cp_cache_group,
        attn_tp_group=params.attn_tp_cache_group,
    )
    return cache, event


def test_mamba_attach_passes_everything_on():
    params = mamba_params(CPU, pp_rank=1, pp_size=2, **GROUPS)

    cache, event = attach_mamba(params)

    controller = cache.cache_controller
    assert tuple(getattr(controller, name) for name in GROUP_NAMES) == tuple(GROUPS.values())
    assert (controller.storage_backend, controller.storage_backend_extra_config) == (
        "file",
        {"prefetch_timeout_max": 1},
    )
    assert (controller.prefetch_threshold, controller.enable_storage_metrics) == (33, True)
    assert (controller.model_name, controller.load_cache_event) == ("m", event)
    assert (controller.pp_rank, controller.pp_size, controller.layer_num) == (1, 2, 7)
    assert cache.mamba_pool_host is cache.host_pool_group.get_pool(PoolName.MAMBA)
    assert cache.full_kv_pool_host is cache.host_pool_group.anchor_entry.host_pool


@pytest.mark.parametrize("attach", ["mamba", "unified"])
def test_readers_of_states_wait_on_the_controllers_counter(attach):
    params = mamba_params(CPU)
    if attach == "mamba":
        cache, _ = attach_mamba(params)
    else:
        cache = UnifiedRadixCache(params)
        attach_hybrid_pool_to_unified_cache(cache, params, ServerArgs(), load_cache_event=None)

    counter = cache.cache_controller.layer_done_counter
    assert params.req_to_token_pool.layer_transfer_counter is counter
    assert params.token_to_kv_pool_allocator.get_kvcache().layer_transfer_counter is counter


@pytest.mark.parametrize(
    ("make_params", "name", "component", "wish"),
    [
        (swa_params, PoolName.SWA, ComponentType.SWA, EvictParams(swa_num_tokens=12)),
        (mamba_params, PoolName.MAMBA, ComponentType.MAMBA, EvictParams(mamba_num=12)),
    ],
)
def test_sidecars_ask_the_unified_cache_for_space(monkeypatch, make_params, name, component, wish):
    params = make_params(CPU)
    cache = UnifiedRadixCache(params)
    attach_hybrid_pool_to_unified_cache(cache, params, ServerArgs(), load_cache_event=None)

    assert asked_by(monkeypatch, cache, name) == [(12, component), (wish,)]


def test_states_ask_the_mamba_cache_for_space(monkeypatch):
    cache, _ = attach_mamba(mamba_params(CPU))

    assert asked_by(monkeypatch, cache, PoolName.MAMBA) == [
        (12, ComponentType.MAMBA),
        (EvictParams(mamba_num=12),),
    ]


def asked_by(monkeypatch, cache, name):
    """Return what the cache is asked when a pool needs 12 slots on either side."""
    asked = []
    monkeypatch.setattr(cache, "evict_host", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr(cache, "evict", lambda *arguments: asked.append(arguments))
    entry = cache.host_pool_group.entry(name)
    entry.host_evict_fn(12)
    entry.device_evict_fn(12)
    return asked


def test_unified_attach_to_an_unknown_family_raises():
    params = params_of(mha_pool(CPU))
    cache = UnifiedRadixCache(params)
    params.token_to_kv_pool_allocator.get_kvcache().components = tuple(ComponentType)
    expected = "slots for full or slots for full and swa or slots for full and mamba"
    with pytest.raises(AssemblyError, match=f"expected {expected}, got MHATokenToKVPool"):
        attach_hybrid_pool_to_unified_cache(cache, params, ServerArgs(), load_cache_event=None)


def test_mamba_attach_without_states_raises():
    params = params_of(mha_pool(CPU))
    cache = UnifiedRadixCache(params)
    with pytest.raises(
        AssemblyError, match="expected slots for full and mamba, got MHATokenToKVPool"
    ):
        attach_hybrid_pool_to_mamba_cache(
            cache,
            params,
            ServerArgs(),
            extra_config=None,
            prefetch_threshold=1,
            load_cache_event=None,
        )
