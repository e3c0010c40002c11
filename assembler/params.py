"""Parameters that a server and a scheduler hand to caches and builders.

Source: sglang 0.5.12 ``server_args.py`` (defaults) and ``cache_init_params.py``.
"""

from dataclasses import dataclass
from typing import TypeAlias

from assembler.allocators.base import DeviceSlotAllocator
from assembler.allocators.requests import HybridReqToTokenPool
from assembler.allocators.swa import SWATokenToKVPoolAllocator
from assembler.groups import ProcessGroup
from assembler.names import ComponentType

KVSlotAllocator: TypeAlias = DeviceSlotAllocator | SWATokenToKVPoolAllocator
"""Hands out the device slots of a KV pool; with a sliding window, of two."""


@dataclass(slots=True)
class ServerArgs:
    """The hierarchical cache's settings. Mutable: ``init_hicache`` corrects the layout in place.

    Attributes:
        hicache_ratio: host slots per device slot; used when ``hicache_size`` is 0.
        hicache_size: size of *each* host pool in decimal gigabytes, 0 to size by ratio.
        hicache_write_policy: a :class:`~assembler.names.WritePolicy` value.
        hicache_io_backend: an :class:`~assembler.names.IoBackend` value.
        hicache_mem_layout: a :class:`~assembler.names.HostLayout` value.
        hicache_storage_backend: name of the storage tier, which also names the host allocator.
        served_model_name: goes into storage keys.
        enable_metrics: whether the storage tier counts what it does.
    """

    hicache_ratio: float = 2.0
    hicache_size: float = 0
    hicache_write_policy: str = "write_through"
    hicache_io_backend: str = "kernel"
    hicache_mem_layout: str = "layer_first"
    hicache_storage_backend: str | None = None
    served_model_name: str | None = None
    enable_metrics: bool = False


@dataclass(slots=True)
class CacheInitParams:
    """Everything a cache is built from.

    Attributes:
        disable: whether prefixes are not reused at all.
        req_to_token_pool: the requests' state pool of a Mamba hybrid; None for any other model.
        token_to_kv_pool_allocator: hands out device slots and knows the device pool.
        page_size: tokens of a page.
        tp_cache_group: the ranks that keep the same cache.
        attn_cp_cache_group: attention context-parallel ranks.
        attn_tp_cache_group: attention tensor-parallel ranks.
        pp_cache_group: ranks of the same place in every pipeline stage; published from 0.5.13 on.
        eviction_policy: order of eviction; the caches here know ``lru``.
        enable_metrics: whether the cache counts what it does.
        pp_rank: pipeline stage, from 0.
        pp_size: number of pipeline stages.
        sliding_window_size: tokens a sliding-window layer looks back; None without such layers.
        tree_components: the parts of a node that own slots; None for those the pools have.
    """

    disable: bool
    req_to_token_pool: HybridReqToTokenPool | None
    token_to_kv_pool_allocator: KVSlotAllocator
    page_size: int
    tp_cache_group: ProcessGroup | None = None
    attn_cp_cache_group: ProcessGroup | None = None
    attn_tp_cache_group: ProcessGroup | None = None
    eviction_policy: str = "lru"
    enable_metrics: bool = False
    pp_rank: int = 0
    pp_size: int = 1
    sliding_window_size: int | None = None
    tree_components: tuple[ComponentType, ...] | None = None
    pp_cache_group: ProcessGroup | None = None
