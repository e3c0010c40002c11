"""A stack of full attention and sliding windows."""

import threading
from collections.abc import Mapping

from assembler.allocators.swa import SWATokenToKVPoolAllocator
from assembler.controller.hybrid import HybridCacheController
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.errors import AssemblyError
from assembler.groups import ProcessGroup
from assembler.host_pools.group import EvictFn, HostPoolGroup
from assembler.names import PoolName
from assembler.params import CacheInitParams, ServerArgs
from assembler.stacks.parts import (
    build_kv_host_pool,
    build_pool_entry,
    count_stage_layers,
    finish_stack,
    first_stage_layer,
)


def build_hybrid_swa_stack(
    *,
    params: CacheInitParams,
    server_args: ServerArgs,
    full_kv_pool: MHATokenToKVPool | MLATokenToKVPool,
    swa_kv_pool: MHATokenToKVPool | MLATokenToKVPool,
    full_layer_mapping: Mapping[int, int],
    swa_layer_mapping: Mapping[int, int],
    page_size: int,
    tp_group: ProcessGroup | None,
    load_cache_event: threading.Event | None,
    attn_cp_group: ProcessGroup | None = None,
    attn_tp_group: ProcessGroup | None = None,
    storage_backend: str | None,
    use_mla: bool,
    host_swa_evict_fn: EvictFn | None = None,
    device_swa_evict_fn: EvictFn | None = None,
    prefetch_threshold: int = 256,
    model_name: str | None = None,
    storage_backend_extra_config: Mapping[str, object] | None = None,
    pp_rank: int = 0,
    pp_size: int = 1,
    enable_storage_metrics: bool = False,
) -> tuple[HostPoolGroup, HybridCacheController]:
    """Build a stack of full attention (anchor ``KV``) and sliding windows (``SWA``, own slots).

    There is no ``override_kv_cache_dim``: neither pool has latent rows of unusual width.

    Args (beside the shared ones):
        full_kv_pool: the full-attention layers' pool.
        swa_kv_pool: the window layers' pool.
        full_layer_mapping: layers of the former.
        swa_layer_mapping: layers of the latter.
        host_swa_evict_fn: asked for window slots on the host when there are too few.
        device_swa_evict_fn: the same on the device.
    """
    start_layer = first_stage_layer(params)
    transfer_layer_num = count_stage_layers(
        start_layer=start_layer, layer_mappings=(full_layer_mapping, swa_layer_mapping)
    )
    full_host_pool = build_kv_host_pool(
        kv_pool=full_kv_pool,
        page_size=page_size,
        server_args=server_args,
        use_mla=use_mla,
        override_kv_cache_dim=None,
    )
    swa_host_pool = build_kv_host_pool(
        kv_pool=swa_kv_pool,
        page_size=page_size,
        server_args=server_args,
        use_mla=use_mla,
        override_kv_cache_dim=None,
    )
    swa_allocator = _swa_allocator(params).swa_attn_allocator
    full_entry = build_pool_entry(
        name=PoolName.KV,
        host_pool=full_host_pool,
        device_pool=full_kv_pool,
        layer_mapping=full_layer_mapping,
        start_layer=start_layer,
        transfer_layer_num=transfer_layer_num,
        is_anchor=True,
        host_evict_fn=None,
        device_evict_fn=None,
        device_alloc_fn=None,
        device_free_fn=None,
    )
    swa_entry = build_pool_entry(
        name=PoolName.SWA,
        host_pool=swa_host_pool,
        device_pool=swa_kv_pool,
        layer_mapping=swa_layer_mapping,
        start_layer=start_layer,
        transfer_layer_num=transfer_layer_num,
        is_anchor=False,
        host_evict_fn=host_swa_evict_fn,
        device_evict_fn=device_swa_evict_fn,
        device_alloc_fn=swa_allocator.alloc,
        device_free_fn=swa_allocator.free,
    )
    return finish_stack(
        entries=[full_entry, swa_entry],
        params=params,
        server_args=server_args,
        page_size=page_size,
        tp_group=tp_group,
        load_cache_event=load_cache_event,
        attn_cp_group=attn_cp_group,
        attn_tp_group=attn_tp_group,
        storage_backend=storage_backend,
        prefetch_threshold=prefetch_threshold,
        model_name=model_name,
        storage_backend_extra_config=storage_backend_extra_config,
        pp_rank=pp_rank,
        pp_size=pp_size,
        transfer_layer_num=transfer_layer_num,
        enable_storage_metrics=enable_storage_metrics,
    )


def _swa_allocator(params: CacheInitParams) -> SWATokenToKVPoolAllocator:
    """Return the allocator of both attention kinds, or raise AssemblyError."""
    allocator = params.token_to_kv_pool_allocator
    if not isinstance(allocator, SWATokenToKVPoolAllocator):
        raise AssemblyError(
            "SWA",
            "window slots must have an allocator",
            expected="SWATokenToKVPoolAllocator",
            got=type(allocator).__name__,
        )
    return allocator
