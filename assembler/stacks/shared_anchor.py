"""The stack of a pool whose second buffer lives on the same slots."""

import threading
from collections.abc import Callable, Mapping

from assembler.controller.settings import ControllerSettings
from assembler.groups import ProcessGroup
from assembler.host_pools.base import DevicePool, HostKVCache
from assembler.names import PoolName
from assembler.params import CacheInitParams, ServerArgs
from assembler.stacks.parts import GROUP_SLOTS, Stack, StageLayers, finish_stack, mirror_token_pool


def build_shared_anchor_stack(  # noqa: PLR0913 - published signature
    *,
    params: CacheInitParams,
    server_args: ServerArgs,
    kv_pool: DevicePool,
    full_layer_mapping: Mapping[int, int],
    page_size: int,
    tp_group: ProcessGroup | None,
    load_cache_event: threading.Event | None,
    attn_cp_group: ProcessGroup | None = None,
    attn_tp_group: ProcessGroup | None = None,
    pp_group: ProcessGroup | None = None,
    storage_backend: str | None,
    use_mla: bool,
    shared_pool_name: PoolName,
    shared_host_pool_factory: Callable[[HostKVCache], HostKVCache],
    override_kv_cache_dim: int | None = None,
    prefetch_threshold: int = 256,
    model_name: str | None = None,
    storage_backend_extra_config: Mapping[str, object] | None = None,
    pp_rank: int = 0,
    pp_size: int = 1,
    enable_storage_metrics: bool = False,
) -> Stack:
    """Build a stack of an anchor ``KV`` and a second buffer of the same pool on the same slots.

    ``shared_pool_name`` names the second buffer, ``INDEXER`` for sparse attention;
    ``shared_host_pool_factory`` builds its host pool from the anchor's.
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
    layers = StageLayers.of(params, full_layer_mapping)
    kv_host_pool = mirror_token_pool(
        kv_pool, settings=settings, use_mla=use_mla, override_kv_cache_dim=override_kv_cache_dim
    )
    kv = layers.entry(PoolName.KV, kv_host_pool, kv_pool, full_layer_mapping, GROUP_SLOTS)
    shared_host_pool = shared_host_pool_factory(kv_host_pool)
    shared = layers.entry(
        shared_pool_name, shared_host_pool, kv_pool, full_layer_mapping, GROUP_SLOTS
    )
    return finish_stack(entries=[kv, shared], layers=layers, settings=settings)
