"""The stack of full attention and sliding windows."""

import threading
from collections.abc import Mapping

from assembler.controller.settings import ControllerSettings
from assembler.device_pools.base import SlotAllocator
from assembler.errors import AssemblyError
from assembler.groups import ProcessGroup
from assembler.host_pools.base import DevicePool
from assembler.host_pools.group import EvictFn
from assembler.names import ComponentType, PoolName
from assembler.params import CacheInitParams, ServerArgs
from assembler.stacks.parts import (
    GROUP_SLOTS,
    SlotFunctions,
    Stack,
    StageLayers,
    finish_stack,
    mirror_token_pool,
)


def build_hybrid_swa_stack(  # noqa: PLR0913 - published signature
    *,
    params: CacheInitParams,
    server_args: ServerArgs,
    full_kv_pool: DevicePool,
    swa_kv_pool: DevicePool,
    full_layer_mapping: Mapping[int, int],
    swa_layer_mapping: Mapping[int, int],
    page_size: int,
    tp_group: ProcessGroup | None,
    load_cache_event: threading.Event | None,
    attn_cp_group: ProcessGroup | None = None,
    attn_tp_group: ProcessGroup | None = None,
    pp_group: ProcessGroup | None = None,
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
) -> Stack:
    """Build a stack of full attention (anchor ``KV``) and sliding windows (``SWA``, own slots).

    There is no ``override_kv_cache_dim``: neither pool has latent rows of unusual width.
    """
    settings = ControllerSettings(
        params=params,
        server_args=server_args,
        page_size=page_size,
        tp_group=tp_group,
        load_cache_event=load_cache_event,
        attn_cp_group=attn_cp_group,
        attn_tp_group=attn_tp_group,
        pp_group=pp_group,
        storage_backend=storage_backend,
        prefetch_threshold=prefetch_threshold,
        model_name=model_name,
        storage_backend_extra_config=storage_backend_extra_config,
        pp_rank=pp_rank,
        pp_size=pp_size,
        enable_storage_metrics=enable_storage_metrics,
    )
    layers = StageLayers.of(params, full_layer_mapping, swa_layer_mapping)
    full_host_pool, swa_host_pool = (
        mirror_token_pool(pool, settings=settings, use_mla=use_mla, override_kv_cache_dim=None)
        for pool in (full_kv_pool, swa_kv_pool)
    )
    allocator = _window_allocator(params)
    swa_slots = SlotFunctions(
        host_evict_fn=host_swa_evict_fn,
        device_evict_fn=device_swa_evict_fn,
        device_alloc_fn=allocator.alloc,
        device_free_fn=allocator.free,
    )
    full = layers.entry(PoolName.KV, full_host_pool, full_kv_pool, full_layer_mapping, GROUP_SLOTS)
    swa = layers.entry(PoolName.SWA, swa_host_pool, swa_kv_pool, swa_layer_mapping, swa_slots)
    return finish_stack(entries=[full, swa], layers=layers, settings=settings)


def _window_allocator(params: CacheInitParams) -> SlotAllocator:
    """Return the allocator of window slots, or raise AssemblyError."""
    allocator = params.token_to_kv_pool_allocator
    owner = allocator.slot_owners.get(ComponentType.SWA)
    if owner is None:
        rule, expected = "window slots must have an allocator", "SWATokenToKVPoolAllocator"
        raise AssemblyError("SWA", rule, expected=expected, got=type(allocator).__name__)
    return owner
