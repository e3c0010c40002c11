"""The cache for hybrids of attention and recurrent states."""

import threading
from collections.abc import Mapping

from assembler.cache.hierarchical import HierarchicalCache
from assembler.cache.layout import fix_direct_layout
from assembler.device_pools.linear import HybridLinearKVPool
from assembler.errors import AssemblyError
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.group import HostPoolGroup
from assembler.names import PoolName
from assembler.params import CacheInitParams, ServerArgs
from assembler.stacks.attach import attach_hybrid_pool_to_mamba_cache


class HiMambaRadixCache(HierarchicalCache):
    """A cache whose nodes hold full KV and one recurrent state.

    The constructor builds no stack: :meth:`init_hicache` does, the attach function, or a builder
    whose result is given to :meth:`adopt`.

    Attributes:
        server_args: the settings that :meth:`init_hicache` builds with.
        load_cache_event: the signal that loads are wanted.

    Source: sglang 0.5.12 ``hi_mamba_radix_cache.py``, which builds its stack in the constructor;
        the ledger is flat here, see :class:`~assembler.cache.hierarchical.HierarchicalCache`.
    """

    def __init__(self, params: CacheInitParams, server_args: ServerArgs) -> None:
        """Start empty and without a stack.

        Raises:
            AssemblyError: the pool is no hybrid of attention and states.
        """
        super().__init__(params)
        kv = params.token_to_kv_pool_allocator.get_kvcache()
        if not isinstance(kv, HybridLinearKVPool):
            raise AssemblyError(
                "HiMambaRadixCache",
                "the pool must be a hybrid of attention and states",
                expected="HybridLinearKVPool",
                got=type(kv).__name__,
            )
        self.server_args = server_args
        self.load_cache_event = threading.Event()

    @property
    def token_to_kv_pool_host(self) -> HostPoolGroup:
        """The host pools."""
        return self.host_pool_group

    @property
    def full_kv_pool_host(self) -> HostKVCache:
        """The anchor's host pool."""
        return self.host_pool_group.anchor_entry.host_pool

    @property
    def mamba_pool_host(self) -> HostKVCache:
        """The states' host pool."""
        return self.host_pool_group.get_pool(PoolName.MAMBA)

    def init_hicache(
        self, *, extra_config: Mapping[str, object] | None, prefetch_threshold: int
    ) -> None:
        """Build and adopt the stack of attention and states.

        Args:
            extra_config: the storage tier's own settings.
            prefetch_threshold: tokens below which storage is not asked.

        Raises:
            AssemblyError: the stack would not mirror the device pools.
        """
        fix_direct_layout(self.server_args)
        attach_hybrid_pool_to_mamba_cache(
            self,
            self.params,
            self.server_args,
            extra_config=extra_config,
            prefetch_threshold=prefetch_threshold,
            load_cache_event=self.load_cache_event,
            enable_storage_metrics=self.params.enable_metrics,
            attn_cp_group=self.params.attn_cp_cache_group,
            attn_tp_group=self.params.attn_tp_cache_group,
        )
