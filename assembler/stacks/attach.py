"""Attach functions: choose the stack for a model's pools, build it, hand it to the cache.

The arguments that all builders share are collected once per call, in
:class:`SharedStackArguments`; mypy checks the keys where they are unpacked.

Source: sglang 0.5.12 ``hybrid_pool_assembler.py:639-1026``.
"""

import threading
from collections.abc import Callable, Mapping
from typing import NotRequired, TypedDict

from assembler.allocators.requests import HybridReqToTokenPool
from assembler.device_pools.base import KVCache
from assembler.device_pools.linear import HybridLinearKVPool
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.device_pools.nsa import NSATokenToKVPool
from assembler.device_pools.swa import SWAKVPool
from assembler.errors import AssemblyError
from assembler.groups import ProcessGroup
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.group import SidecarPoolSpec
from assembler.host_pools.indexer import NSAIndexerPoolHost
from assembler.names import ComponentType, PoolName
from assembler.owner import EvictParams, StackOwner
from assembler.params import CacheInitParams, ServerArgs
from assembler.stacks.hybrid_mamba import build_hybrid_mamba_stack
from assembler.stacks.hybrid_swa import build_hybrid_swa_stack
from assembler.stacks.kv_only import build_kv_only_stack
from assembler.stacks.parts import Stack, TokenPool
from assembler.stacks.shared_anchor import build_shared_anchor_stack


class SharedStackArguments(TypedDict):
    """Keywords that every builder takes; the last two only where there is a storage tier."""

    params: CacheInitParams
    server_args: ServerArgs
    page_size: int
    tp_group: ProcessGroup | None
    load_cache_event: threading.Event | None
    attn_cp_group: ProcessGroup | None
    attn_tp_group: ProcessGroup | None
    storage_backend: str | None
    model_name: str | None
    pp_rank: int
    pp_size: int
    enable_storage_metrics: bool
    prefetch_threshold: NotRequired[int]
    storage_backend_extra_config: NotRequired[Mapping[str, object] | None]


def attach_hybrid_pool_to_unified_cache(
    cache: StackOwner,
    params: CacheInitParams,
    server_args: ServerArgs,
    *,
    load_cache_event: threading.Event | None,
    attn_cp_group: ProcessGroup | None = None,
    attn_tp_group: ProcessGroup | None = None,
) -> None:
    """Build the stack of the model's pools, of any family, and give it to ``cache``.

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
    shared = _without_storage(
        params,
        server_args,
        load_cache_event=load_cache_event,
        attn_cp_group=attn_cp_group,
        attn_tp_group=attn_tp_group,
    )
    kv = params.token_to_kv_pool_allocator.get_kvcache()
    if isinstance(kv, HybridLinearKVPool):
        stack = _mamba_stack(cache, shared)
    elif isinstance(kv, SWAKVPool):
        stack = _swa_stack(cache, kv, shared)
    elif isinstance(kv, NSATokenToKVPool):
        stack = _sparse_stack(cache, kv, shared)
    elif isinstance(kv, MHATokenToKVPool | MLATokenToKVPool):
        stack = _plain_stack(kv, shared)
    else:
        raise _wrong_pool(expected=KVCache, got=kv)
    cache.adopt(*stack)


def attach_hybrid_nsa_pool_to_hiradix_cache(
    radix_cache: StackOwner,
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
        params: allocator, groups, pipeline stage.
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
    shared = _without_storage(
        params,
        server_args,
        load_cache_event=load_cache_event,
        attn_cp_group=attn_cp_group,
        attn_tp_group=attn_tp_group,
    )
    shared = _with_storage(shared, extra_config, prefetch_threshold, enable_storage_metrics)
    kv = params.token_to_kv_pool_allocator.get_kvcache()
    if not isinstance(kv, NSATokenToKVPool):
        raise _wrong_pool(expected=NSATokenToKVPool, got=kv)
    radix_cache.adopt(*_sparse_stack(radix_cache, kv, shared))


def attach_hybrid_pool_to_mamba_cache(
    mamba_cache: StackOwner,
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

    The arguments are those of :func:`attach_hybrid_nsa_pool_to_hiradix_cache`; ``params`` has the
    request pool too.

    Raises:
        AssemblyError: the pools are no such hybrid, or the stack would not mirror them.
    """
    shared = _without_storage(
        params,
        server_args,
        load_cache_event=load_cache_event,
        attn_cp_group=attn_cp_group,
        attn_tp_group=attn_tp_group,
    )
    shared = _with_storage(shared, extra_config, prefetch_threshold, enable_storage_metrics)
    mamba_cache.adopt(*_mamba_stack(mamba_cache, shared))


def adopt_plain_stack(
    radix_cache: StackOwner,
    params: CacheInitParams,
    server_args: ServerArgs,
    *,
    extra_config: Mapping[str, object] | None,
    prefetch_threshold: int,
    load_cache_event: threading.Event | None,
    enable_storage_metrics: bool,
    attn_cp_group: ProcessGroup | None,
    attn_tp_group: ProcessGroup | None,
) -> None:
    """Build the stack of a pool of keys and values or latent rows for a radix cache.

    The arguments are those of :func:`attach_hybrid_nsa_pool_to_hiradix_cache`. The field has no
    attach function for these pools, so this one is not recorded.

    Raises:
        AssemblyError: the pool is of another family, or the stack would not mirror it.
    """
    shared = _without_storage(
        params,
        server_args,
        load_cache_event=load_cache_event,
        attn_cp_group=attn_cp_group,
        attn_tp_group=attn_tp_group,
    )
    shared = _with_storage(shared, extra_config, prefetch_threshold, enable_storage_metrics)
    kv = params.token_to_kv_pool_allocator.get_kvcache()
    if not isinstance(kv, MHATokenToKVPool | MLATokenToKVPool):
        raise _wrong_pool(expected=MHATokenToKVPool, got=kv)
    radix_cache.adopt(*_plain_stack(kv, shared))


def _without_storage(
    params: CacheInitParams,
    server_args: ServerArgs,
    *,
    load_cache_event: threading.Event | None,
    attn_cp_group: ProcessGroup | None,
    attn_tp_group: ProcessGroup | None,
) -> SharedStackArguments:
    """Return the shared arguments of a stack that has no storage tier."""
    return SharedStackArguments(
        params=params,
        server_args=server_args,
        page_size=params.page_size,
        tp_group=params.tp_cache_group,
        load_cache_event=load_cache_event,
        attn_cp_group=attn_cp_group,
        attn_tp_group=attn_tp_group,
        storage_backend=None,
        model_name=server_args.served_model_name,
        pp_rank=params.pp_rank,
        pp_size=params.pp_size,
        enable_storage_metrics=params.enable_metrics,
    )


def _with_storage(
    shared: SharedStackArguments,
    extra_config: Mapping[str, object] | None,
    prefetch_threshold: int,
    enable_storage_metrics: bool,  # noqa: FBT001 - private, three callers
) -> SharedStackArguments:
    """Return shared arguments with those of the storage tier that ``server_args`` name."""
    return {
        **shared,
        "storage_backend": shared["server_args"].hicache_storage_backend,
        "storage_backend_extra_config": extra_config,
        "prefetch_threshold": prefetch_threshold,
        "enable_storage_metrics": enable_storage_metrics,
    }


def _plain_stack(kv: TokenPool, shared: SharedStackArguments) -> Stack:
    """Build the stack of plain attention."""
    return build_kv_only_stack(
        **shared,
        kv_pool=kv,
        full_layer_mapping=_stage_layers(kv),
        use_mla=isinstance(kv, MLATokenToKVPool),
        override_kv_cache_dim=kv.kv_cache_dim if isinstance(kv, MLATokenToKVPool) else None,
    )


def _sparse_stack(owner: StackOwner, kv: NSATokenToKVPool, shared: SharedStackArguments) -> Stack:
    """Build the stack of sparse attention and register its index."""
    stack = build_shared_anchor_stack(
        **shared,
        kv_pool=kv,
        full_layer_mapping=_stage_layers(kv),
        use_mla=True,
        shared_pool_name=PoolName.INDEXER,
        shared_host_pool_factory=_indexer_factory(kv, shared["server_args"]),
        override_kv_cache_dim=kv.kv_cache_dim,
    )
    owner.register_sidecar_pool(SidecarPoolSpec(PoolName.INDEXER, PoolName.KV))
    return stack


def _swa_stack(owner: StackOwner, kv: SWAKVPool, shared: SharedStackArguments) -> Stack:
    """Build the stack of full attention and sliding windows."""
    layers = kv.layers_mapping.items()
    return build_hybrid_swa_stack(
        **shared,
        full_kv_pool=kv.full_kv_pool,
        swa_kv_pool=kv.swa_kv_pool,
        full_layer_mapping={layer: index for layer, (index, is_swa) in layers if not is_swa},
        swa_layer_mapping={layer: index for layer, (index, is_swa) in layers if is_swa},
        use_mla=isinstance(kv.full_kv_pool, MLATokenToKVPool),
        host_swa_evict_fn=lambda num: owner.evict_host(num, ComponentType.SWA),
        device_swa_evict_fn=lambda num: owner.evict(EvictParams(swa_num_tokens=num)),
    )


def _mamba_stack(owner: StackOwner, shared: SharedStackArguments) -> Stack:
    """Build the stack of attention and recurrent states."""
    kv, requests = _linear_hybrid(shared["params"])
    return build_hybrid_mamba_stack(
        **shared,
        kv_pool=kv.full_kv_pool,
        mamba_pool=requests.mamba_pool,
        full_layer_mapping=kv.full_attention_layer_id_mapping,
        mamba_layer_mapping=requests.mamba_map,
        use_mla=kv.use_mla,
        host_mamba_evict_fn=lambda num: owner.evict_host(num, ComponentType.MAMBA),
        device_mamba_evict_fn=lambda num: owner.evict(EvictParams(mamba_num=num)),
    )


def _stage_layers(kv: KVCache) -> dict[int, int]:
    """Return the layer mapping of a pool that has every layer of its stage."""
    return {layer: layer - kv.start_layer for layer in range(kv.start_layer, kv.end_layer + 1)}


def _indexer_factory(
    kv: NSATokenToKVPool, server_args: ServerArgs
) -> Callable[[HostKVCache], HostKVCache]:
    """Return the function that builds the index's host pool from the anchor's."""
    return lambda anchor_host: NSAIndexerPoolHost(
        device_pool=kv,
        anchor_host=anchor_host,
        layout=server_args.hicache_mem_layout,
        pin_memory=True,
        device=kv.device,
        allocator_type=server_args.hicache_storage_backend,
    )


def _linear_hybrid(params: CacheInitParams) -> tuple[HybridLinearKVPool, HybridReqToTokenPool]:
    """Return both pools of an attention and state hybrid, or raise AssemblyError."""
    kvcache = params.token_to_kv_pool_allocator.get_kvcache()
    if not isinstance(kvcache, HybridLinearKVPool):
        raise _wrong_pool(expected=HybridLinearKVPool, got=kvcache)
    if params.req_to_token_pool is None:
        raise _wrong_pool(expected=HybridReqToTokenPool, got=None)
    return kvcache, params.req_to_token_pool


def _wrong_pool(*, expected: type, got: object) -> AssemblyError:
    """Return the error for a model whose pools an attach function does not take."""
    return AssemblyError(
        "attach",
        "the model's pools must suit the attach function",
        expected=expected.__name__,
        got="none" if got is None else type(got).__name__,
    )
