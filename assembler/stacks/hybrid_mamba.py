"""A stack of attention and recurrent states."""

import threading
from collections.abc import Mapping

from assembler.controller.hybrid import HybridCacheController
from assembler.device_pools.mamba import HybridReqToTokenPool, MambaPool
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.errors import AssemblyError
from assembler.groups import ProcessGroup
from assembler.host_pools.group import EvictFn, HostPoolGroup
from assembler.host_pools.mamba import MambaPoolHost
from assembler.names import PoolName
from assembler.params import CacheInitParams, ServerArgs
from assembler.stacks.parts import (
    build_kv_host_pool,
    build_pool_entry,
    count_stage_layers,
    finish_stack,
    first_stage_layer,
)


def build_hybrid_mamba_stack(
    *,
    params: CacheInitParams,
    server_args: ServerArgs,
    kv_pool: MHATokenToKVPool | MLATokenToKVPool,
    mamba_pool: MambaPool,
    full_layer_mapping: Mapping[int, int],
    mamba_layer_mapping: Mapping[int, int],
    page_size: int,
    tp_group: ProcessGroup | None,
    load_cache_event: threading.Event | None,
    attn_cp_group: ProcessGroup | None = None,
    attn_tp_group: ProcessGroup | None = None,
    storage_backend: str | None,
    use_mla: bool,
    host_mamba_evict_fn: EvictFn | None = None,
    device_mamba_evict_fn: EvictFn | None = None,
    prefetch_threshold: int = 256,
    model_name: str | None = None,
    storage_backend_extra_config: Mapping[str, object] | None = None,
    pp_rank: int = 0,
    pp_size: int = 1,
    enable_storage_metrics: bool = False,
) -> tuple[HostPoolGroup, HybridCacheController]:
    """Build a stack of attention (anchor ``KV``) and recurrent states (``MAMBA``, own slots).

    The states' host pool has the same ratio or size as the anchor's, counted in states. As in the
    field there is no ``override_kv_cache_dim``, so a sparse-attention anchor in float8 is refused.

    Args (beside the shared ones):
        kv_pool: the attention layers' pool, numbered from 0.
        mamba_pool: the states.
        full_layer_mapping: layers of the former.
        mamba_layer_mapping: layers of the latter; a layer may be in both.
        host_mamba_evict_fn: asked for state slots on the host when there are too few.
        device_mamba_evict_fn: the same on the device.
    """
    start_layer = first_stage_layer(params)
    transfer_layer_num = count_stage_layers(
        start_layer=start_layer, layer_mappings=(full_layer_mapping, mamba_layer_mapping)
    )
    kv_host_pool = build_kv_host_pool(
        kv_pool=kv_pool,
        page_size=page_size,
        server_args=server_args,
        use_mla=use_mla,
        override_kv_cache_dim=None,
    )
    mamba_host_pool = MambaPoolHost(
        device_pool=mamba_pool,
        host_to_device_ratio=server_args.hicache_ratio,
        host_size=server_args.hicache_size,
        layout=server_args.hicache_mem_layout,
        pin_memory=True,
        device=mamba_pool.device,
        allocator_type=server_args.hicache_storage_backend,
    )
    mamba_allocator = _state_pool(params).mamba_allocator
    kv_entry = build_pool_entry(
        name=PoolName.KV,
        host_pool=kv_host_pool,
        device_pool=kv_pool,
        layer_mapping=full_layer_mapping,
        start_layer=start_layer,
        transfer_layer_num=transfer_layer_num,
        is_anchor=True,
        host_evict_fn=None,
        device_evict_fn=None,
        device_alloc_fn=None,
        device_free_fn=None,
    )
    mamba_entry = build_pool_entry(
        name=PoolName.MAMBA,
        host_pool=mamba_host_pool,
        device_pool=mamba_pool,
        layer_mapping=mamba_layer_mapping,
        start_layer=start_layer,
        transfer_layer_num=transfer_layer_num,
        is_anchor=False,
        host_evict_fn=host_mamba_evict_fn,
        device_evict_fn=device_mamba_evict_fn,
        device_alloc_fn=mamba_allocator.alloc,
        device_free_fn=mamba_allocator.free,
    )
    return finish_stack(
        entries=[kv_entry, mamba_entry],
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


def _state_pool(params: CacheInitParams) -> HybridReqToTokenPool:
    """Return the requests' state pool, or raise AssemblyError."""
    if params.req_to_token_pool is None:
        raise AssemblyError(
            "MAMBA",
            "recurrent states must have a request pool",
            expected="HybridReqToTokenPool",
            got="none",
        )
    return params.req_to_token_pool
