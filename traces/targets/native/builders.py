"""How a native scenario calls the stack builder it is about, every parameter a sentinel.

A sentinel is a value that no default and no sibling argument has, so that a dropped or swapped
keyword changes the trace.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from assembler import (
    CacheInitParams,
    HiRadixCache,
    HostPoolGroup,
    HybridCacheController,
    PoolName,
    ServerArgs,
    UnifiedRadixCache,
    attach_hybrid_nsa_pool_to_hiradix_cache,
    attach_hybrid_pool_to_mamba_cache,
    attach_hybrid_pool_to_unified_cache,
    build_hybrid_mamba_stack,
    build_hybrid_swa_stack,
    build_kv_only_stack,
    build_shared_anchor_stack,
)
from assembler.cache.mamba import HiMambaRadixCache
from assembler.device_pools.linear import HybridLinearKVPool
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.device_pools.nsa import NSATokenToKVPool
from assembler.device_pools.swa import SWAKVPool
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.group import SidecarPoolSpec
from assembler.host_pools.indexer import NSAIndexerPoolHost
from assembler.names import ComponentType
from assembler.owner import EvictParams
from traces.targets.native.pools import NativeDevicePools, NativeGeometry, RankGroups
from traces.targets.native.scenarios import GROUPS, NativeScenario

PREFETCH_THRESHOLD = 771
MODEL_NAME = "sentinel/model-7b"
EXTRA_CONFIG: dict[str, object] = {"sentinel_option": 97}

Cache: TypeAlias = UnifiedRadixCache | HiRadixCache | HiMambaRadixCache


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderInputs:
    """Everything a builder call draws its arguments from."""

    scenario: NativeScenario
    geometry: NativeGeometry
    side: NativeDevicePools
    groups: RankGroups
    params: CacheInitParams
    server_args: ServerArgs
    load_cache_event: threading.Event


def make_params(
    scenario: NativeScenario, side: NativeDevicePools, groups: RankGroups
) -> CacheInitParams:
    """Return the cache parameters of a scenario."""
    shape = GROUPS[scenario.groups]
    return CacheInitParams(
        disable=False,
        req_to_token_pool=side.req_to_token_pool,
        token_to_kv_pool_allocator=side.allocator,
        page_size=scenario.page_size,
        tp_cache_group=groups.tp,
        attn_cp_cache_group=groups.attn_cp,
        attn_tp_cache_group=groups.attn_tp,
        enable_metrics=True,
        pp_rank=shape.pp_rank,
        pp_size=shape.pp_size,
    )


def make_server_args(scenario: NativeScenario, *, host_gigabytes: float) -> ServerArgs:
    """Return the server arguments of a scenario; 3.0 is nobody's default ratio."""
    by_size = scenario.sizing == "gb"
    return ServerArgs(
        hicache_ratio=3.0,
        hicache_size=host_gigabytes if by_size else 0,
        hicache_write_policy=scenario.write_policy,
        hicache_io_backend=scenario.io_backend,
        hicache_mem_layout=scenario.layout,
        hicache_storage_backend=scenario.storage_backend,
        served_model_name=MODEL_NAME,
        enable_metrics=True,
    )


def make_cache(scenario: NativeScenario, params: CacheInitParams, server_args: ServerArgs) -> Cache:
    """Return the cache the stack is attached to, or that plays a stack built directly."""
    match scenario.builder:
        case "attach_hybrid_nsa_pool_to_hiradix_cache" | "HiRadixCache.init_hicache":
            return HiRadixCache(params, server_args)
        case "attach_hybrid_pool_to_mamba_cache" | "HiMambaRadixCache.init_hicache":
            return HiMambaRadixCache(params, server_args)
        case _:
            return UnifiedRadixCache(params)


def call_builder(plan: BuilderInputs, cache: Cache) -> None:
    """Call the scenario's builder; afterwards ``cache`` works on the new stack."""
    BUILDER_CALLS[plan.scenario.builder](plan, cache)


def _kv_only(plan: BuilderInputs, cache: Cache) -> None:
    pool = plan.side.kvcache
    assert isinstance(pool, MHATokenToKVPool | MLATokenToKVPool)
    is_mla = isinstance(pool, MLATokenToKVPool)
    stack = build_kv_only_stack(
        params=plan.params,
        server_args=plan.server_args,
        kv_pool=pool,
        full_layer_mapping=_identity_mapping(plan),
        page_size=plan.params.page_size,
        tp_group=plan.groups.tp,
        load_cache_event=plan.load_cache_event,
        attn_cp_group=plan.groups.attn_cp,
        attn_tp_group=plan.groups.attn_tp,
        storage_backend=plan.scenario.storage_backend,
        use_mla=is_mla,
        override_kv_cache_dim=pool.kv_cache_dim if isinstance(pool, MLATokenToKVPool) else None,
        prefetch_threshold=PREFETCH_THRESHOLD,
        model_name=MODEL_NAME,
        storage_backend_extra_config=EXTRA_CONFIG,
        pp_rank=plan.params.pp_rank,
        pp_size=plan.params.pp_size,
        enable_storage_metrics=True,
    )
    _adopt_stack(cache, stack)


def _swa(plan: BuilderInputs, cache: Cache) -> None:
    pool = plan.side.kvcache
    assert isinstance(pool, SWAKVPool)
    stack = build_hybrid_swa_stack(
        params=plan.params,
        server_args=plan.server_args,
        full_kv_pool=pool.full_kv_pool,
        swa_kv_pool=pool.swa_kv_pool,
        full_layer_mapping=_layer_mapping(plan, plan.geometry.model.full_layers),
        swa_layer_mapping=_layer_mapping(plan, plan.geometry.model.swa_layers),
        page_size=plan.params.page_size,
        tp_group=plan.groups.tp,
        load_cache_event=plan.load_cache_event,
        attn_cp_group=plan.groups.attn_cp,
        attn_tp_group=plan.groups.attn_tp,
        storage_backend=plan.scenario.storage_backend,
        use_mla=False,
        host_swa_evict_fn=_host_evict(cache, ComponentType.SWA),
        device_swa_evict_fn=lambda need: cache.evict(EvictParams(swa_num_tokens=need)),
        prefetch_threshold=PREFETCH_THRESHOLD,
        model_name=MODEL_NAME,
        storage_backend_extra_config=EXTRA_CONFIG,
        pp_rank=plan.params.pp_rank,
        pp_size=plan.params.pp_size,
        enable_storage_metrics=True,
    )
    _adopt_stack(cache, stack)


def _mamba(plan: BuilderInputs, cache: Cache) -> None:
    pool, requests = plan.side.kvcache, plan.side.req_to_token_pool
    assert isinstance(pool, HybridLinearKVPool)
    assert requests is not None
    stack = build_hybrid_mamba_stack(
        params=plan.params,
        server_args=plan.server_args,
        kv_pool=pool.full_kv_pool,
        mamba_pool=requests.mamba_pool,
        full_layer_mapping=_layer_mapping(plan, plan.geometry.model.full_layers),
        mamba_layer_mapping=_layer_mapping(plan, plan.geometry.model.state_layers),
        page_size=plan.params.page_size,
        tp_group=plan.groups.tp,
        load_cache_event=plan.load_cache_event,
        attn_cp_group=plan.groups.attn_cp,
        attn_tp_group=plan.groups.attn_tp,
        storage_backend=plan.scenario.storage_backend,
        use_mla=pool.use_mla,
        host_mamba_evict_fn=_host_evict(cache, ComponentType.MAMBA),
        device_mamba_evict_fn=lambda need: cache.evict(EvictParams(mamba_num=need)),
        prefetch_threshold=PREFETCH_THRESHOLD,
        model_name=MODEL_NAME,
        storage_backend_extra_config=EXTRA_CONFIG,
        pp_rank=plan.params.pp_rank,
        pp_size=plan.params.pp_size,
        enable_storage_metrics=True,
    )
    _adopt_stack(cache, stack)


def _shared_anchor(plan: BuilderInputs, cache: Cache) -> None:
    pool = plan.side.kvcache
    assert isinstance(pool, NSATokenToKVPool)

    def indexer_host(anchor_host: HostKVCache) -> NSAIndexerPoolHost:
        return NSAIndexerPoolHost(
            device_pool=pool,
            anchor_host=anchor_host,
            layout=plan.server_args.hicache_mem_layout,
            pin_memory=True,
            device=pool.device,
            allocator_type=plan.server_args.hicache_storage_backend,
        )

    stack = build_shared_anchor_stack(
        params=plan.params,
        server_args=plan.server_args,
        kv_pool=pool,
        full_layer_mapping=_identity_mapping(plan),
        page_size=plan.params.page_size,
        tp_group=plan.groups.tp,
        load_cache_event=plan.load_cache_event,
        attn_cp_group=plan.groups.attn_cp,
        attn_tp_group=plan.groups.attn_tp,
        storage_backend=plan.scenario.storage_backend,
        use_mla=True,
        shared_pool_name=PoolName.INDEXER,
        shared_host_pool_factory=indexer_host,
        override_kv_cache_dim=pool.kv_cache_dim,
        prefetch_threshold=PREFETCH_THRESHOLD,
        model_name=MODEL_NAME,
        storage_backend_extra_config=EXTRA_CONFIG,
        pp_rank=plan.params.pp_rank,
        pp_size=plan.params.pp_size,
        enable_storage_metrics=True,
    )
    cache.register_sidecar_pool(
        SidecarPoolSpec(pool_name=PoolName.INDEXER, indices_from_pool=PoolName.KV)
    )
    _adopt_stack(cache, stack)


def _attach_unified(plan: BuilderInputs, cache: Cache) -> None:
    attach_hybrid_pool_to_unified_cache(
        cache,
        plan.params,
        plan.server_args,
        load_cache_event=plan.load_cache_event,
        attn_cp_group=plan.groups.attn_cp,
        attn_tp_group=plan.groups.attn_tp,
    )


def _attach_nsa(plan: BuilderInputs, cache: Cache) -> None:
    attach_hybrid_nsa_pool_to_hiradix_cache(
        cache,
        plan.params,
        plan.server_args,
        extra_config=EXTRA_CONFIG,
        prefetch_threshold=PREFETCH_THRESHOLD,
        enable_storage_metrics=True,
        load_cache_event=plan.load_cache_event,
        attn_cp_group=plan.groups.attn_cp,
        attn_tp_group=plan.groups.attn_tp,
    )


def _attach_mamba(plan: BuilderInputs, cache: Cache) -> None:
    attach_hybrid_pool_to_mamba_cache(
        cache,
        plan.params,
        plan.server_args,
        extra_config=EXTRA_CONFIG,
        prefetch_threshold=PREFETCH_THRESHOLD,
        load_cache_event=plan.load_cache_event,
        enable_storage_metrics=True,
        attn_cp_group=plan.groups.attn_cp,
        attn_tp_group=plan.groups.attn_tp,
    )


def _init_unified(plan: BuilderInputs, cache: Cache) -> None:
    assert isinstance(cache, UnifiedRadixCache)
    cache.init_hicache(plan.server_args, plan.params)


def _init_other(plan: BuilderInputs, cache: Cache) -> None:
    del plan
    assert isinstance(cache, HiRadixCache | HiMambaRadixCache)
    cache.init_hicache(extra_config=EXTRA_CONFIG, prefetch_threshold=PREFETCH_THRESHOLD)


BUILDER_CALLS: dict[str, Callable[[BuilderInputs, Cache], None]] = {
    "build_kv_only_stack": _kv_only,
    "build_hybrid_swa_stack": _swa,
    "build_hybrid_mamba_stack": _mamba,
    "build_shared_anchor_stack": _shared_anchor,
    "attach_hybrid_pool_to_unified_cache": _attach_unified,
    "attach_hybrid_nsa_pool_to_hiradix_cache": _attach_nsa,
    "attach_hybrid_pool_to_mamba_cache": _attach_mamba,
    "UnifiedRadixCache.init_hicache": _init_unified,
    "HiRadixCache.init_hicache": _init_other,
    "HiMambaRadixCache.init_hicache": _init_other,
}


def _adopt_stack(cache: Cache, stack: tuple[HostPoolGroup, HybridCacheController]) -> None:
    group, controller = stack
    cache.adopt(group, controller)


def _identity_mapping(plan: BuilderInputs) -> dict[int, int]:
    return _layer_mapping(plan, plan.geometry.model.full_layers)


def _layer_mapping(plan: BuilderInputs, stage_local: tuple[int, ...]) -> dict[int, int]:
    """Return global layer id to index in the pool."""
    ids = plan.geometry.global_ids(stage_local)
    return {layer_id: index for index, layer_id in enumerate(ids)}


def _host_evict(cache: Cache, component: ComponentType) -> Callable[[int], object]:
    return lambda need: cache.evict_host(need, component)
