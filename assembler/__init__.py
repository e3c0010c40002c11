"""Hybrid hierarchical KV-cache stacks: device pools, host pools and the transfers between them.

These names are the contract; everything else may change.
"""

from assembler.cache.hiradix import HiMambaRadixCache, HiRadixCache
from assembler.cache.unified import UnifiedRadixCache
from assembler.controller.hybrid import HybridCacheController
from assembler.host_pools.group import HostPoolGroup, PoolEntry, PoolTransfer
from assembler.names import PoolName
from assembler.params import CacheInitParams, ServerArgs
from assembler.stacks import (
    build_hybrid_mamba_stack,
    build_hybrid_swa_stack,
    build_kv_only_stack,
    build_shared_anchor_stack,
)
from assembler.stacks.attach import (
    attach_hybrid_nsa_pool_to_hiradix_cache,
    attach_hybrid_pool_to_mamba_cache,
    attach_hybrid_pool_to_unified_cache,
)
from assembler.validation import validation_disabled as without_walls

__all__ = [
    "CacheInitParams",
    "HiMambaRadixCache",
    "HiRadixCache",
    "HostPoolGroup",
    "HybridCacheController",
    "PoolEntry",
    "PoolName",
    "PoolTransfer",
    "ServerArgs",
    "UnifiedRadixCache",
    "attach_hybrid_nsa_pool_to_hiradix_cache",
    "attach_hybrid_pool_to_mamba_cache",
    "attach_hybrid_pool_to_unified_cache",
    "build_hybrid_mamba_stack",
    "build_hybrid_swa_stack",
    "build_kv_only_stack",
    "build_shared_anchor_stack",
    "without_walls",
]
