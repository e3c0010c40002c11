"""The attach functions: choose the stack for a model's pools, build it, hand it to the cache.

Each passes on everything it knows: nothing is left to a builder's default.

Source: sglang 0.5.12 ``hybrid_pool_assembler.py:639-1026``.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from assembler.cache.hierarchical import HierarchicalCache
from assembler.cache.nodes import EvictParams, EvictResult
from assembler.controller.hybrid import HybridCacheController
from assembler.device_pools.base import KVCache
from assembler.device_pools.linear import HybridLinearKVPool
from assembler.device_pools.mamba import HybridReqToTokenPool
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.device_pools.nsa import NSATokenToKVPool
from assembler.device_pools.swa import SWAKVPool
from assembler.errors import AssemblyError
from assembler.groups import ProcessGroup
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.group import HostPoolGroup, SidecarPoolSpec
from assembler.host_pools.indexer import NSAIndexerPoolHost
from assembler.names import ComponentType, PoolName
from assembler.params import CacheInitParams, ServerArgs
from assembler.stacks.hybrid_mamba import build_hybrid_mamba_stack
from assembler.stacks.hybrid_swa import build_hybrid_swa_stack
from assembler.stacks.kv_only import build_kv_only_stack
from assembler.stacks.shared_anchor import build_shared_anchor_stack

Stack: TypeAlias = tuple[HostPoolGroup, HybridCacheController]


@dataclass(frozen=True, slots=True, kw_only=True)
class _UnifiedRequest:
    """One call of :func:`attach_hybrid_pool_to_unified_cache`."""

    cache: HierarchicalCache
    params: CacheInitParams
    server_args: ServerArgs
    load_cache_event: threading.Event | None
    attn_cp_group: ProcessGroup | None
    attn_tp_group: ProcessGroup | None


def attach_hybrid_pool_to_unified_cache(
    cache: HierarchicalCache,
    params: CacheInitParams,
    server_args: ServerArgs,
    *,
    load_cache_event: threading.Event | None,
    attn_cp_group: ProcessGroup | None = None,
    attn_tp_group: ProcessGroup | None = None,
) -> None:
    """Build the stack of the model's pools, whatever family they are, and give it to ``cache``.

    Args:
        cache: adopts the stack and evicts for it; sidecars are registered with it.
        params: allocator, request pool, groups, pipeline stage.
        server_args: sizes, layout, io backend, write policy.
        load_cache_event: the cache's signal that loads are wanted.
        attn_cp_group: attention context-parallel ranks.
        attn_tp_group: attention tensor-parallel ranks.

    Raises:
        AssemblyError: no stack is known for the pools, or the stack would not mirror them.
    """
    request = _UnifiedRequest(
        cache=cache,
        params=params,
        server_args=server_args,
        load_cache_event=load_cache_event,
        attn_cp_group=attn_cp_group,
        attn_tp_group=attn_tp_group,
    )
    kvcache = params.token_to_kv_pool_allocator.get_kvcache()
    if isinstance(kvcache, HybridLinearKVPool):
        host_pool_group, cache_controller = _unified_mamba_stack(request)
    elif isinstance(kvcache, SWAKVPool):
        host_pool_group, cache_controller = _unified_swa_stack(request, kvcache)
    elif isinstance(kvcache, NSATokenToKVPool):
        host_pool_group, cache_controller = _unified_nsa_stack(request, kvcache)
        cache.register_sidecar_pool(SidecarPoolSpec(PoolName.INDEXER, PoolName.KV))
    elif isinstance(kvcache, MHATokenToKVPool | MLATokenToKVPool):
        host_pool_group, cache_controller = _unified_plain_stack(request, kvcache)
    else:
        raise _wrong_pool(expected=KVCache, got=kvcache)
    cache.adopt(host_pool_group, cache_controller)


def attach_hybrid_nsa_pool_to_hiradix_cache(
    radix_cache: HierarchicalCache,
    params: CacheInitParams,
    server_args: ServerArgs,
    *,
    extra_config: Mapping[str, object] | None,
    prefetch_threshold: int,
    enable_storage_metrics: bool,
    load_cache_event: threading.Event | None,
    attn_cp_group: ProcessGroup | None = None,
    attn_tp_group: ProcessGroup | None = None,
) -> None:
    """Build the stack of a sparse-attention pool, latent rows and index, for a radix cache.

    Args:
        radix_cache: adopts the stack; the index is registered as its sidecar.
        params: allocator and pipeline stage.
        server_args: sizes, layout, io backend, write policy, storage backend, model name.
        extra_config: the storage tier's own settings.
        prefetch_threshold: tokens below which storage is not asked.
        enable_storage_metrics: whether the storage tier counts what it does.
        load_cache_event: the cache's signal that loads are wanted.
        attn_cp_group: attention context-parallel ranks.
        attn_tp_group: attention tensor-parallel ranks.

    Raises:
        AssemblyError: the pool is no sparse-attention pool, or the stack would not mirror it.

    Source: sglang 0.5.12 ``hybrid_pool_assembler.py:907-963``; its ``override_kv_cache_dim`` is
        what 0.5.11 lost and #25022 restored.
    """
    kv = params.token_to_kv_pool_allocator.get_kvcache()
    if not isinstance(kv, NSATokenToKVPool):
        raise _wrong_pool(expected=NSATokenToKVPool, got=kv)
    host_pool_group, cache_controller = build_shared_anchor_stack(
        params=params,
        server_args=server_args,
        kv_pool=kv,
        full_layer_mapping=_stage_layers(kv),
        page_size=radix_cache.page_size,
        tp_group=radix_cache.tp_group,
        load_cache_event=load_cache_event,
        attn_cp_group=attn_cp_group,
        attn_tp_group=attn_tp_group,
        storage_backend=server_args.hicache_storage_backend,
        use_mla=True,
        shared_pool_name=PoolName.INDEXER,
        shared_host_pool_factory=_indexer_factory(kv, server_args),
        override_kv_cache_dim=kv.kv_cache_dim,
        prefetch_threshold=prefetch_threshold,
        model_name=server_args.served_model_name,
        storage_backend_extra_config=extra_config,
        pp_rank=radix_cache.pp_rank,
        pp_size=radix_cache.pp_size,
        enable_storage_metrics=enable_storage_metrics,
    )
    radix_cache.register_sidecar_pool(SidecarPoolSpec(PoolName.INDEXER, PoolName.KV))
    radix_cache.adopt(host_pool_group, cache_controller)


def attach_hybrid_pool_to_mamba_cache(
    mamba_cache: HierarchicalCache,
    params: CacheInitParams,
    server_args: ServerArgs,
    *,
    extra_config: Mapping[str, object] | None,
    prefetch_threshold: int,
    load_cache_event: threading.Event | None,
    enable_storage_metrics: bool = False,
    attn_cp_group: ProcessGroup | None = None,
    attn_tp_group: ProcessGroup | None = None,
) -> None:
    """Build the stack of a hybrid of attention and recurrent states for a Mamba cache.

    Args:
        mamba_cache: adopts the stack and evicts states for it.
        params: allocator, request pool, groups, pipeline stage.
        server_args: sizes, layout, io backend, write policy, storage backend, model name.
        extra_config: the storage tier's own settings.
        prefetch_threshold: tokens below which storage is not asked.
        load_cache_event: the cache's signal that loads are wanted.
        enable_storage_metrics: whether the storage tier counts what it does.
        attn_cp_group: attention context-parallel ranks.
        attn_tp_group: attention tensor-parallel ranks.

    Raises:
        AssemblyError: the pools are no such hybrid, or the stack would not mirror them.
    """
    hybrid_kv, state_pool = _linear_hybrid(params)
    host_pool_group, cache_controller = build_hybrid_mamba_stack(
        params=params,
        server_args=server_args,
        kv_pool=hybrid_kv.full_kv_pool,
        mamba_pool=state_pool.mamba_pool,
        full_layer_mapping=hybrid_kv.full_attention_layer_id_mapping,
        mamba_layer_mapping=state_pool.mamba_map,
        page_size=params.page_size,
        tp_group=params.tp_cache_group,
        load_cache_event=load_cache_event,
        attn_cp_group=attn_cp_group,
        attn_tp_group=attn_tp_group,
        storage_backend=server_args.hicache_storage_backend,
        use_mla=hybrid_kv.use_mla,
        host_mamba_evict_fn=_host_evictor(mamba_cache, ComponentType.MAMBA),
        device_mamba_evict_fn=_state_evictor(mamba_cache),
        prefetch_threshold=prefetch_threshold,
        model_name=server_args.served_model_name,
        storage_backend_extra_config=extra_config,
        pp_rank=params.pp_rank,
        pp_size=params.pp_size,
        enable_storage_metrics=enable_storage_metrics,
    )
    mamba_cache.adopt(host_pool_group, cache_controller)


def _unified_plain_stack(
    request: _UnifiedRequest, kv: MHATokenToKVPool | MLATokenToKVPool
) -> Stack:
    """Build the stack of plain attention."""
    return build_kv_only_stack(
        params=request.params,
        server_args=request.server_args,
        kv_pool=kv,
        full_layer_mapping=_stage_layers(kv),
        page_size=request.cache.page_size,
        tp_group=request.params.tp_cache_group,
        load_cache_event=request.load_cache_event,
        attn_cp_group=request.attn_cp_group,
        attn_tp_group=request.attn_tp_group,
        storage_backend=None,  # the unified cache has no storage tier
        use_mla=isinstance(kv, MLATokenToKVPool),
        override_kv_cache_dim=kv.kv_cache_dim if isinstance(kv, MLATokenToKVPool) else None,
        model_name=request.server_args.served_model_name,
        pp_rank=request.params.pp_rank,
        pp_size=request.params.pp_size,
        enable_storage_metrics=request.params.enable_metrics,
    )


def _unified_nsa_stack(request: _UnifiedRequest, kv: NSATokenToKVPool) -> Stack:
    """Build the stack of sparse attention."""
    return build_shared_anchor_stack(
        params=request.params,
        server_args=request.server_args,
        kv_pool=kv,
        full_layer_mapping=_stage_layers(kv),
        page_size=request.cache.page_size,
        tp_group=request.params.tp_cache_group,
        load_cache_event=request.load_cache_event,
        attn_cp_group=request.attn_cp_group,
        attn_tp_group=request.attn_tp_group,
        storage_backend=None,  # the unified cache has no storage tier
        use_mla=True,
        shared_pool_name=PoolName.INDEXER,
        shared_host_pool_factory=_indexer_factory(kv, request.server_args),
        override_kv_cache_dim=kv.kv_cache_dim,
        model_name=request.server_args.served_model_name,
        pp_rank=request.params.pp_rank,
        pp_size=request.params.pp_size,
        enable_storage_metrics=request.params.enable_metrics,
    )


def _unified_swa_stack(request: _UnifiedRequest, kvcache: SWAKVPool) -> Stack:
    """Build the stack of full attention and sliding windows."""
    layers = kvcache.layers_mapping.items()
    return build_hybrid_swa_stack(
        params=request.params,
        server_args=request.server_args,
        full_kv_pool=kvcache.full_kv_pool,
        swa_kv_pool=kvcache.swa_kv_pool,
        full_layer_mapping={layer: index for layer, (index, is_swa) in layers if not is_swa},
        swa_layer_mapping={layer: index for layer, (index, is_swa) in layers if is_swa},
        page_size=request.cache.page_size,
        tp_group=request.params.tp_cache_group,
        load_cache_event=request.load_cache_event,
        attn_cp_group=request.attn_cp_group,
        attn_tp_group=request.attn_tp_group,
        storage_backend=None,  # the unified cache has no storage tier
        use_mla=isinstance(kvcache.full_kv_pool, MLATokenToKVPool),
        host_swa_evict_fn=_host_evictor(request.cache, ComponentType.SWA),
        device_swa_evict_fn=_window_evictor(request.cache),
        model_name=request.server_args.served_model_name,
        pp_rank=request.params.pp_rank,
        pp_size=request.params.pp_size,
        enable_storage_metrics=request.params.enable_metrics,
    )


def _unified_mamba_stack(request: _UnifiedRequest) -> Stack:
    """Build the stack of attention and recurrent states."""
    hybrid_kv, state_pool = _linear_hybrid(request.params)
    return build_hybrid_mamba_stack(
        params=request.params,
        server_args=request.server_args,
        kv_pool=hybrid_kv.full_kv_pool,
        mamba_pool=state_pool.mamba_pool,
        full_layer_mapping=hybrid_kv.full_attention_layer_id_mapping,
        mamba_layer_mapping=state_pool.mamba_map,
        page_size=request.cache.page_size,
        tp_group=request.params.tp_cache_group,
        load_cache_event=request.load_cache_event,
        attn_cp_group=request.attn_cp_group,
        attn_tp_group=request.attn_tp_group,
        storage_backend=None,  # the unified cache has no storage tier
        use_mla=hybrid_kv.use_mla,
        host_mamba_evict_fn=_host_evictor(request.cache, ComponentType.MAMBA),
        device_mamba_evict_fn=_state_evictor(request.cache),
        model_name=request.server_args.served_model_name,
        pp_rank=request.params.pp_rank,
        pp_size=request.params.pp_size,
        enable_storage_metrics=request.params.enable_metrics,
    )


def _stage_layers(kv: KVCache) -> dict[int, int]:
    """Return the global layer ids of a pool that has every layer of its stage."""
    return {layer: layer - kv.start_layer for layer in range(kv.start_layer, kv.end_layer + 1)}


def _indexer_factory(
    kv: NSATokenToKVPool, server_args: ServerArgs
) -> Callable[[HostKVCache], HostKVCache]:
    """Return what builds the index's host pool from the anchor's."""

    def build_indexer(anchor_host: HostKVCache) -> HostKVCache:
        return NSAIndexerPoolHost(
            device_pool=kv,
            anchor_host=anchor_host,
            layout=server_args.hicache_mem_layout,
            pin_memory=True,
            device=kv.device,
            allocator_type=server_args.hicache_storage_backend,
        )

    return build_indexer


def _linear_hybrid(params: CacheInitParams) -> tuple[HybridLinearKVPool, HybridReqToTokenPool]:
    """Return both pools of an attention and state hybrid, or raise AssemblyError."""
    kvcache = params.token_to_kv_pool_allocator.get_kvcache()
    if not isinstance(kvcache, HybridLinearKVPool):
        raise _wrong_pool(expected=HybridLinearKVPool, got=kvcache)
    if params.req_to_token_pool is None:
        raise _wrong_pool(expected=HybridReqToTokenPool, got=None)
    return kvcache, params.req_to_token_pool


def _host_evictor(cache: HierarchicalCache, component: ComponentType) -> Callable[[int], int]:
    """Return what frees host slots of a component."""
    return lambda num: cache.evict_host(num, component)


def _window_evictor(cache: HierarchicalCache) -> Callable[[int], EvictResult]:
    """Return what frees window slots on the device."""
    return lambda num: cache.evict(EvictParams(swa_num_tokens=num))


def _state_evictor(cache: HierarchicalCache) -> Callable[[int], EvictResult]:
    """Return what frees state slots on the device."""
    return lambda num: cache.evict(EvictParams(mamba_num=num))


def _wrong_pool(*, expected: type, got: object) -> AssemblyError:
    """Return the error for a model whose pools an attach function does not take."""
    return AssemblyError(
        "attach",
        "the model's pools must suit the attach function",
        expected=expected.__name__,
        got="none" if got is None else type(got).__name__,
    )
