"""What tells the three caches apart: the pools they take and how they get their stack."""

import logging

import pytest
import torch

from assembler.cache.hiradix import HiMambaRadixCache, HiRadixCache
from assembler.cache.unified import UnifiedRadixCache
from assembler.device import get_device
from assembler.errors import AssemblyError
from assembler.groups import LocalGroup
from assembler.names import PoolName
from assembler.params import ServerArgs
from tests.assembler.small_models import (
    mamba_params,
    mha_pool,
    mla_pool,
    nsa_pool,
    params_of,
    swa_params,
)

CPU = get_device("cpu")
WARNING = (
    "the io backend direct cannot move the host layout page_first; using page_first_direct instead"
)


def test_init_hicache_corrects_the_layout_and_warns(caplog):
    params = params_of(mha_pool(CPU))
    server_args = ServerArgs(hicache_io_backend="direct", hicache_mem_layout="page_first")
    cache = UnifiedRadixCache(params)

    with caplog.at_level(logging.WARNING):
        cache.init_hicache(server_args, params)

    assert server_args.hicache_mem_layout == "page_first_direct"
    assert cache.host_pool_group.layout == "page_first_direct"
    assert [record.getMessage() for record in caplog.records] == [WARNING]


@pytest.mark.parametrize(
    ("backend", "layout"), [("kernel", "page_first"), ("direct", "layer_first")]
)
def test_init_hicache_leaves_a_possible_layout_alone(caplog, backend, layout):
    params = params_of(mha_pool(CPU))
    server_args = ServerArgs(hicache_io_backend=backend, hicache_mem_layout=layout)

    with caplog.at_level(logging.WARNING):
        UnifiedRadixCache(params).init_hicache(server_args, params)

    assert server_args.hicache_mem_layout == layout
    assert caplog.records == []


@pytest.mark.parametrize(("policy", "threshold"), [("write_through", 1), ("write_back", 2)])
def test_init_hicache_sets_the_thresholds(policy, threshold):
    params = params_of(mha_pool(CPU))
    cache = UnifiedRadixCache(params)

    cache.init_hicache(ServerArgs(hicache_write_policy=policy), params)

    assert (cache.write_through_threshold, cache.load_back_threshold) == (threshold, 256)


def test_init_hicache_passes_groups_and_a_fresh_event():
    """Regression: sglang #25022, groups are passed as objects by the unified cache."""
    cp, tp = LocalGroup("cp", (0, 1, 2), 1), LocalGroup("attn_tp", (0, 1), 0)
    params = params_of(mha_pool(CPU), attn_cp_cache_group=cp, attn_tp_cache_group=tp)
    cache = UnifiedRadixCache(params)

    cache.init_hicache(ServerArgs(), params)

    controller = cache.cache_controller
    assert (controller.attn_cp_group, controller.attn_tp_group) == (cp, tp)
    assert controller.load_cache_event is cache.load_cache_event
    assert cache.load_cache_event is not None


def test_init_hicache_twice_registers_its_sidecars_once():
    params = params_of(nsa_pool(CPU))
    cache = UnifiedRadixCache(params)

    cache.init_hicache(ServerArgs(), params)
    cache.init_hicache(ServerArgs(), params)

    assert len(cache.sidecar_pool_specs) == 1


@pytest.mark.parametrize(
    ("make_pool", "pools"),
    [
        (mha_pool, [PoolName.KV]),
        (mla_pool, [PoolName.KV]),
        (nsa_pool, [PoolName.KV, PoolName.INDEXER]),
    ],
)
def test_radix_cache_builds_the_stack_of_its_pool(make_pool, pools):
    params = params_of(make_pool(CPU), enable_metrics=True)
    cache = HiRadixCache(params, ServerArgs(served_model_name="m"))

    cache.init_hicache(extra_config={"a": 1}, prefetch_threshold=9)

    controller = cache.cache_controller
    assert list(cache.token_to_kv_pool_host.entry_map) == pools
    assert (controller.prefetch_threshold, controller.model_name) == (9, "m")
    assert (controller.storage_backend_extra_config, controller.enable_storage_metrics) == (
        {"a": 1},
        True,
    )


def test_radix_cache_gives_packed_latent_rows_the_devices_width():
    params = params_of(mla_pool(CPU, dtype=torch.float8_e4m3fn, override=656))
    cache = HiRadixCache(params, ServerArgs())

    cache.init_hicache(extra_config=None, prefetch_threshold=9)

    assert cache.full_kv_pool_host.kv_buffer.shape[-1] == 656


def test_radix_cache_passes_groups_stage_and_backend():
    groups = {
        "tp_group": LocalGroup("tp", (0, 1), 0),
        "attn_cp_group": LocalGroup("cp", (0, 1, 2), 1),
        "attn_tp_group": LocalGroup("attn_tp", (0, 1), 1),
    }
    params = params_of(
        mha_pool(CPU, start_layer=4),
        tp_cache_group=groups["tp_group"],
        attn_cp_cache_group=groups["attn_cp_group"],
        attn_tp_cache_group=groups["attn_tp_group"],
        pp_rank=1,
        pp_size=2,
    )
    cache = HiRadixCache(params, ServerArgs(hicache_storage_backend="file", served_model_name="m"))

    cache.init_hicache(extra_config=None, prefetch_threshold=9)

    controller = cache.cache_controller
    assert {name: getattr(controller, name) for name in groups} == groups
    assert (controller.pp_rank, controller.pp_size, controller.layer_num) == (1, 2, 3)
    assert controller.storage_backend == "file"
    assert controller.load_cache_event is cache.load_cache_event


def test_sparse_radix_cache_passes_groups_and_metrics():
    cp, tp = LocalGroup("cp", (0, 1, 2), 1), LocalGroup("attn_tp", (0, 1), 0)
    params = params_of(
        nsa_pool(CPU), attn_cp_cache_group=cp, attn_tp_cache_group=tp, enable_metrics=True
    )
    cache = HiRadixCache(params, ServerArgs())

    cache.init_hicache(extra_config=None, prefetch_threshold=9)

    controller = cache.cache_controller
    assert (controller.attn_cp_group, controller.attn_tp_group) == (cp, tp)
    assert controller.enable_storage_metrics is True


def test_mamba_cache_builds_the_stack_of_its_pools():
    cp, tp = LocalGroup("cp", (0, 1, 2), 1), LocalGroup("attn_tp", (0, 1), 0)
    params = mamba_params(CPU, attn_cp_cache_group=cp, attn_tp_cache_group=tp, enable_metrics=True)
    cache = HiMambaRadixCache(params, ServerArgs())

    cache.init_hicache(extra_config={"a": 1}, prefetch_threshold=9)

    controller = cache.cache_controller
    assert list(cache.token_to_kv_pool_host.entry_map) == [PoolName.KV, PoolName.MAMBA]
    assert (controller.prefetch_threshold, controller.storage_backend_extra_config) == (9, {"a": 1})
    assert (controller.attn_cp_group, controller.attn_tp_group) == (cp, tp)
    assert controller.enable_storage_metrics is True
    assert controller.load_cache_event is cache.load_cache_event


@pytest.mark.parametrize(
    ("cache_class", "make_params", "message"),
    [
        (HiRadixCache, swa_params, "expected full, got full and swa of SWAKVPool"),
        (
            HiMambaRadixCache,
            lambda device: params_of(mha_pool(device)),
            "expected full and mamba, got full of MHATokenToKVPool",
        ),
    ],
)
def test_cache_for_other_pools_raises(cache_class, make_params, message):
    with pytest.raises(AssemblyError, match=message):
        cache_class(make_params(CPU), ServerArgs())
