"""What every stack builder is made of: host pools, entries, layer numbers, and the last step.

Nothing here has a default: a keyword that a builder forgets is a TypeError.

Source: sglang 0.5.12 ``hybrid_pool_assembler.py:43-92``.
"""

import threading
from collections.abc import Mapping, Sequence

from assembler.controller.hybrid import HybridCacheController
from assembler.device_pools.base import DevicePool
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.errors import AssemblyError
from assembler.geometry import PoolGeometry
from assembler.groups import ProcessGroup
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.group import AllocFn, EvictFn, FreeFn, HostPoolGroup, PoolEntry
from assembler.host_pools.mha import MHATokenToKVPoolHost
from assembler.host_pools.mla import MLATokenToKVPoolHost
from assembler.names import PoolName
from assembler.params import CacheInitParams, ServerArgs
from assembler.validation import validate_stack


def build_kv_host_pool(
    *,
    kv_pool: MHATokenToKVPool | MLATokenToKVPool,
    page_size: int,
    server_args: ServerArgs,
    use_mla: bool,
    override_kv_cache_dim: int | None,
) -> HostKVCache:
    """Build the pinned host mirror of a token pool, sized and laid out as ``server_args`` say.

    Args:
        kv_pool: the pool to mirror.
        page_size: tokens of a page.
        server_args: ratio or size, layout, allocator.
        use_mla: whether rows are latent (one plane) or keys and values.
        override_kv_cache_dim: elements of a latent row where the device's is not
            ``kv_lora_rank + qk_rope_head_dim``; None where it is, and for keys and values.

    Raises:
        AssemblyError: ``use_mla`` or the override does not suit the pool.
        PoolError: the layout is unknown to the pool, or the host would not outgrow the device.
        OutOfHostMemoryError: the pool does not fit.
    """
    if isinstance(kv_pool, MLATokenToKVPool) is not use_mla:
        raise AssemblyError(
            "KV", "use_mla must suit the pool", expected=not use_mla, got=f"use_mla={use_mla}"
        )
    if isinstance(kv_pool, MLATokenToKVPool):
        return MLATokenToKVPoolHost(
            device_pool=kv_pool,
            host_to_device_ratio=server_args.hicache_ratio,
            host_size=server_args.hicache_size,
            page_size=page_size,
            layout=server_args.hicache_mem_layout,
            pin_memory=True,
            device=kv_pool.device,
            allocator_type=server_args.hicache_storage_backend,
            override_kv_cache_dim=override_kv_cache_dim,
        )
    if override_kv_cache_dim is not None:
        raise AssemblyError(
            "KV",
            "only latent rows have a width to override",
            expected="override_kv_cache_dim=None",
            got=override_kv_cache_dim,
        )
    return MHATokenToKVPoolHost(
        device_pool=kv_pool,
        host_to_device_ratio=server_args.hicache_ratio,
        host_size=server_args.hicache_size,
        page_size=page_size,
        layout=server_args.hicache_mem_layout,
        pin_memory=True,
        device=kv_pool.device,
        allocator_type=server_args.hicache_storage_backend,
    )


def build_pool_entry(
    *,
    name: PoolName,
    host_pool: HostKVCache,
    device_pool: DevicePool,
    layer_mapping: Mapping[int, int],
    start_layer: int,
    transfer_layer_num: int,
    is_anchor: bool,
    host_evict_fn: EvictFn | None,
    device_evict_fn: EvictFn | None,
    device_alloc_fn: AllocFn | None,
    device_free_fn: FreeFn | None,
) -> PoolEntry:
    """Build the entry of one pool.

    Args:
        name: the pool's name in the group.
        host_pool: its host side.
        device_pool: its device side.
        layer_mapping: global layer id to layer index in the pool.
        start_layer: first global layer id of the pipeline stage.
        transfer_layer_num: stage-local layers of a load; the entry has none beyond.
        is_anchor: whether the pool owns the group's slot numbers.
        host_evict_fn: asked for host slots when there are too few.
        device_evict_fn: asked for device slots when there are too few.
        device_alloc_fn: takes device slots; None when the pool shares another pool's.
        device_free_fn: gives them back.
    """
    mapped = {
        layer_id: layer_mapping[layer_id + start_layer]
        for layer_id in range(transfer_layer_num)
        if layer_id + start_layer in layer_mapping
    }

    def layer_mapper(layer_id: int) -> int | None:
        return mapped.get(layer_id)

    return PoolEntry(
        name=name,
        host_pool=host_pool,
        device_pool=device_pool,
        layer_mapper=layer_mapper,
        is_primary_index_anchor=is_anchor,
        host_evict_fn=host_evict_fn,
        device_evict_fn=device_evict_fn,
        device_alloc_fn=device_alloc_fn,
        device_free_fn=device_free_fn,
    )


def first_stage_layer(params: CacheInitParams) -> int:
    """Return the first global layer id of the pipeline stage."""
    return params.token_to_kv_pool_allocator.get_kvcache().start_layer


def count_stage_layers(*, start_layer: int, layer_mappings: Sequence[Mapping[int, int]]) -> int:
    """Return how many stage-local layers reach from the stage's first to the last mapped one.

    Raises:
        AssemblyError: no layer is mapped, or one belongs to an earlier stage.
    """
    layer_ids = [layer_id for mapping in layer_mappings for layer_id in mapping]
    if not layer_ids or min(layer_ids) < start_layer:
        raise AssemblyError(
            "layer mapping",
            "mapped layers must belong to the pipeline stage",
            expected=f"ids from {start_layer} on",
            got=sorted(layer_ids) or "none",
        )
    return max(layer_ids) - start_layer + 1


def finish_stack(
    *,
    entries: Sequence[PoolEntry],
    params: CacheInitParams,
    server_args: ServerArgs,
    page_size: int,
    tp_group: ProcessGroup | None,
    load_cache_event: threading.Event | None,
    attn_cp_group: ProcessGroup | None,
    attn_tp_group: ProcessGroup | None,
    storage_backend: str | None,
    prefetch_threshold: int,
    model_name: str | None,
    storage_backend_extra_config: Mapping[str, object] | None,
    pp_rank: int,
    pp_size: int,
    transfer_layer_num: int,
    enable_storage_metrics: bool,
) -> tuple[HostPoolGroup, HybridCacheController]:
    """Group the entries, check the group against the device pools, and build its controller.

    Raises:
        AssemblyError: the entries are no group, or not the mirror of the device pools.
        TransferError: the io backend is unknown.
    """
    host_pool_group = HostPoolGroup(entries)
    validate_stack(
        group=host_pool_group,
        declared=_declared_geometry(params),
        page_size=page_size,
        transfer_layer_num=transfer_layer_num,
    )
    cache_controller = HybridCacheController(
        params.token_to_kv_pool_allocator,
        host_pool_group,
        page_size,
        tp_group,
        load_cache_event=load_cache_event,
        attn_cp_group=attn_cp_group,
        attn_tp_group=attn_tp_group,
        write_policy=server_args.hicache_write_policy,
        io_backend=server_args.hicache_io_backend,
        storage_backend=storage_backend,
        prefetch_threshold=prefetch_threshold,
        model_name=model_name,
        storage_backend_extra_config=storage_backend_extra_config,
        pp_rank=pp_rank,
        pp_size=pp_size,
        transfer_layer_num=transfer_layer_num,
        enable_storage_metrics=enable_storage_metrics,
    )
    return host_pool_group, cache_controller


def _declared_geometry(params: CacheInitParams) -> tuple[PoolGeometry, ...]:
    """Return everything the model's device pools need mirrored, whatever the entries cover."""
    kv = params.token_to_kv_pool_allocator.get_kvcache().declared_geometry()
    if params.req_to_token_pool is None:
        return kv
    return kv + params.req_to_token_pool.mamba_pool.declared_geometry()
