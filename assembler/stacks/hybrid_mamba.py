"""The stack of attention and recurrent states."""

import threading
from collections.abc import Mapping

from assembler.allocators.requests import HybridReqToTokenPool
from assembler.controller.settings import ControllerSettings
from assembler.errors import AssemblyError
from assembler.groups import ProcessGroup
from assembler.host_pools.base import DevicePool
from assembler.host_pools.group import EvictFn
from assembler.names import PoolName
from assembler.params import CacheInitParams, ServerArgs
from assembler.stacks.parts import (
    GROUP_SLOTS,
    SlotFunctions,
    Stack,
    StageLayers,
    finish_stack,
    host_pool_arguments,
    mirror_token_pool,
)


def build_hybrid_mamba_stack(  # noqa: PLR0913 - published signature
    *,
    params: CacheInitParams,
    server_args: ServerArgs,
    kv_pool: DevicePool,
    mamba_pool: DevicePool,
    full_layer_mapping: Mapping[int, int],
    mamba_layer_mapping: Mapping[int, int],
    page_size: int,
    tp_group: ProcessGroup | None,
    load_cache_event: threading.Event | None,
    attn_cp_group: ProcessGroup | None = None,
    attn_tp_group: ProcessGroup | None = None,
    pp_group: ProcessGroup | None = None,
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
) -> Stack:
    """Build a stack of attention (anchor ``KV``) and recurrent states (``MAMBA``, own slots).

    As in the field there is no ``override_kv_cache_dim``, so a sparse float8 anchor is refused.
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
    layers = StageLayers.of(params, full_layer_mapping, mamba_layer_mapping)
    kv_host_pool = mirror_token_pool(
        kv_pool, settings=settings, use_mla=use_mla, override_kv_cache_dim=None
    )
    # The anchor's ratio or size, counted in states.
    state_host_pool = mamba_pool.make_host_pool(
        host_pool_arguments(server_args, page_size=page_size, device=mamba_pool.device),
        override_kv_cache_dim=None,
    )
    allocator = _state_pool(params).mamba_allocator
    state_slots = SlotFunctions(
        host_evict_fn=host_mamba_evict_fn,
        device_evict_fn=device_mamba_evict_fn,
        device_alloc_fn=allocator.alloc,
        device_free_fn=allocator.free,
    )
    kv = layers.entry(PoolName.KV, kv_host_pool, kv_pool, full_layer_mapping, GROUP_SLOTS)
    states = layers.entry(
        PoolName.MAMBA, state_host_pool, mamba_pool, mamba_layer_mapping, state_slots
    )
    return finish_stack(entries=[kv, states], layers=layers, settings=settings)


def _state_pool(params: CacheInitParams) -> HybridReqToTokenPool:
    """Return the requests' state pool, or raise AssemblyError."""
    if params.req_to_token_pool is None:
        rule = "recurrent states must have a request pool"
        raise AssemblyError("MAMBA", rule, expected="HybridReqToTokenPool", got="none")
    return params.req_to_token_pool
