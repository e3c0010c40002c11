"""A stack of one pool."""

import threading
from collections.abc import Mapping

from assembler.controller.hybrid import HybridCacheController
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.groups import ProcessGroup
from assembler.host_pools.group import HostPoolGroup
from assembler.names import PoolName
from assembler.params import CacheInitParams, ServerArgs
from assembler.stacks.parts import (
    build_kv_host_pool,
    build_pool_entry,
    count_stage_layers,
    finish_stack,
    first_stage_layer,
)


def build_kv_only_stack(
    *,
    params: CacheInitParams,
    server_args: ServerArgs,
    kv_pool: MHATokenToKVPool | MLATokenToKVPool,
    full_layer_mapping: Mapping[int, int],
    page_size: int,
    tp_group: ProcessGroup | None,
    load_cache_event: threading.Event | None,
    attn_cp_group: ProcessGroup | None = None,
    attn_tp_group: ProcessGroup | None = None,
    storage_backend: str | None,
    use_mla: bool,
    override_kv_cache_dim: int | None = None,
    prefetch_threshold: int = 256,
    model_name: str | None = None,
    storage_backend_extra_config: Mapping[str, object] | None = None,
    pp_rank: int = 0,
    pp_size: int = 1,
    enable_storage_metrics: bool = False,
) -> tuple[HostPoolGroup, HybridCacheController]:
    """Build a stack of one pool, the anchor ``KV``.

    Args (beside the shared ones):
        kv_pool: the pool to mirror.
        full_layer_mapping: its layers.
        override_kv_cache_dim: elements of a latent row that is not rank plus rotary part.
    """
    start_layer = first_stage_layer(params)
    transfer_layer_num = count_stage_layers(
        start_layer=start_layer, layer_mappings=(full_layer_mapping,)
    )
    kv_host_pool = build_kv_host_pool(
        kv_pool=kv_pool,
        page_size=page_size,
        server_args=server_args,
        use_mla=use_mla,
        override_kv_cache_dim=override_kv_cache_dim,
    )
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
    return finish_stack(
        entries=[kv_entry],
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
