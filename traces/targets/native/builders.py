"""Calls of the stack builders by native scenarios, every parameter a sentinel.

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
from assembler.cache.hiradix import HiMambaRadixCache
from assembler.host_pools.group import SidecarPoolSpec
from assembler.names import ComponentType
from assembler.owner import EvictParams
from assembler.stacks.attach import AttachArguments, SharedStackArguments
from assembler.stacks.parts import sidecar_host_factory
from traces.targets.native.device_side import NativeDevicePools, NativeGeometry
from traces.targets.native.pools import (
    RankGroups,
    host_gigabytes,
    rank_groups,
)
from traces.targets.native.scenarios import GROUPS, NativeScenario

PREFETCH_THRESHOLD = 771
MODEL_NAME = "sentinel/model-7b"
EXTRA_CONFIG: dict[str, object] = {"sentinel_option": 97}

Cache: TypeAlias = UnifiedRadixCache | HiRadixCache | HiMambaRadixCache


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderInputs:
    """Sources of the arguments of a builder call."""

    scenario: NativeScenario
    geometry: NativeGeometry
    side: NativeDevicePools
    groups: RankGroups
    params: CacheInitParams
    server_args: ServerArgs
    load_cache_event: threading.Event


def builder_inputs(
    scenario: NativeScenario,
    geometry: NativeGeometry,
    side: NativeDevicePools,
    groups: RankGroups | None = None,
) -> BuilderInputs:
    """Return the sources of a scenario's arguments; no default host ratio is 3.0.

    ``groups`` are process groups of a real run; None for groups of this process only.
    """
    groups, shape = groups or rank_groups(scenario), GROUPS[scenario.groups]
    params = CacheInitParams(
        disable=False,
        req_to_token_pool=side.req_to_token_pool,
        token_to_kv_pool_allocator=side.allocator,
        page_size=scenario.page_size,
        tp_cache_group=groups.tp,
        attn_cp_cache_group=groups.attn_cp,
        attn_tp_cache_group=groups.attn_tp,
        pp_cache_group=groups.pp,
        enable_metrics=True,
        pp_rank=shape.pp_rank,
        pp_size=shape.pp_size,
        # Two pages: a prefix is longer, so that not every window is loaded.
        sliding_window_size=None if side.allocator.window is None else scenario.page_size + 1,
    )
    server_args = ServerArgs(
        hicache_ratio=3.0,
        hicache_size=host_gigabytes(side, geometry) if scenario.sizing == "gb" else 0,
        hicache_write_policy=scenario.write_policy,
        hicache_io_backend=scenario.io_backend,
        hicache_mem_layout=scenario.layout,
        hicache_storage_backend=scenario.storage_backend,
        served_model_name=MODEL_NAME,
        enable_metrics=True,
    )
    return BuilderInputs(
        scenario=scenario,
        geometry=geometry,
        side=side,
        groups=groups,
        params=params,
        server_args=server_args,
        load_cache_event=threading.Event(),
    )


def build_stack(plan: BuilderInputs) -> Cache:
    """Call the scenario's builder and return the cache that works on the new stack."""
    match plan.scenario.builder:
        case "attach_hybrid_nsa_pool_to_hiradix_cache" | "HiRadixCache.init_hicache":
            cache: Cache = HiRadixCache(plan.params, plan.server_args)
        case "attach_hybrid_pool_to_mamba_cache" | "HiMambaRadixCache.init_hicache":
            cache = HiMambaRadixCache(plan.params, plan.server_args)
        case _:
            cache = UnifiedRadixCache(plan.params)
    BUILDER_CALLS[plan.scenario.builder](plan, cache)
    return cache


def _kv_only(plan: BuilderInputs, cache: Cache) -> None:
    kv = plan.side.mirrored[PoolName.KV]
    stack = build_kv_only_stack(
        kv_pool=kv.device_pool,
        full_layer_mapping=kv.layer_mapping,
        use_mla=kv.device_pool.use_mla,
        override_kv_cache_dim=kv.device_pool.host_row_width,
        **_shared(plan),
    )
    cache.adopt(*stack)


def _swa(plan: BuilderInputs, cache: Cache) -> None:
    full, swa = plan.side.mirrored[PoolName.KV], plan.side.mirrored[PoolName.SWA]
    stack = build_hybrid_swa_stack(
        full_kv_pool=full.device_pool,
        swa_kv_pool=swa.device_pool,
        full_layer_mapping=full.layer_mapping,
        swa_layer_mapping=swa.layer_mapping,
        use_mla=full.device_pool.use_mla,
        host_swa_evict_fn=_host_evict(cache, ComponentType.SWA),
        device_swa_evict_fn=lambda need: cache.evict(EvictParams(swa_num_tokens=need)),
        **_shared(plan),
    )
    cache.adopt(*stack)


def _mamba(plan: BuilderInputs, cache: Cache) -> None:
    full, states = plan.side.mirrored[PoolName.KV], plan.side.mirrored[PoolName.MAMBA]
    stack = build_hybrid_mamba_stack(
        kv_pool=full.device_pool,
        mamba_pool=states.device_pool,
        full_layer_mapping=full.layer_mapping,
        mamba_layer_mapping=states.layer_mapping,
        use_mla=full.device_pool.use_mla,
        host_mamba_evict_fn=_host_evict(cache, ComponentType.MAMBA),
        device_mamba_evict_fn=lambda need: cache.evict(EvictParams(mamba_num=need)),
        **_shared(plan),
    )
    cache.adopt(*stack)


def _shared_anchor(plan: BuilderInputs, cache: Cache) -> None:
    kv = plan.side.mirrored[PoolName.KV]
    [sidecar] = [pool for pool in plan.side.mirrored.values() if not pool.owns_slots]
    name = sidecar.geometry.pool
    stack = build_shared_anchor_stack(
        kv_pool=kv.device_pool,
        full_layer_mapping=kv.layer_mapping,
        use_mla=kv.device_pool.use_mla,
        shared_pool_name=name,
        shared_host_pool_factory=sidecar_host_factory(
            sidecar, plan.server_args, page_size=plan.params.page_size
        ),
        override_kv_cache_dim=kv.device_pool.host_row_width,
        **_shared(plan),
    )
    cache.register_sidecar_pool(SidecarPoolSpec(pool_name=name, indices_from_pool=PoolName.KV))
    cache.adopt(*stack)


def _shared(plan: BuilderInputs) -> SharedStackArguments:
    """Return the arguments that every builder takes."""
    return SharedStackArguments(
        params=plan.params,
        server_args=plan.server_args,
        page_size=plan.params.page_size,
        tp_group=plan.groups.tp,
        load_cache_event=plan.load_cache_event,
        attn_cp_group=plan.groups.attn_cp,
        attn_tp_group=plan.groups.attn_tp,
        pp_group=plan.groups.pp,
        storage_backend=plan.scenario.storage_backend,
        prefetch_threshold=PREFETCH_THRESHOLD,
        model_name=MODEL_NAME,
        storage_backend_extra_config=EXTRA_CONFIG,
        pp_rank=plan.params.pp_rank,
        pp_size=plan.params.pp_size,
        enable_storage_metrics=True,
    )


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
    arguments = _with_storage(plan)
    attach_hybrid_nsa_pool_to_hiradix_cache(cache, plan.params, plan.server_args, **arguments)


def _attach_mamba(plan: BuilderInputs, cache: Cache) -> None:
    arguments = _with_storage(plan)
    attach_hybrid_pool_to_mamba_cache(cache, plan.params, plan.server_args, **arguments)


def _with_storage(plan: BuilderInputs) -> AttachArguments:
    """Return the keywords of the attach functions of caches with a storage tier."""
    return AttachArguments(
        extra_config=EXTRA_CONFIG,
        prefetch_threshold=PREFETCH_THRESHOLD,
        enable_storage_metrics=True,
        load_cache_event=plan.load_cache_event,
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


def _host_evict(cache: Cache, component: ComponentType) -> Callable[[int], object]:
    return lambda need: cache.evict_host(need, component)
