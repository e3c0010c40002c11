"""The cache for models whose only component is the full KV."""

import threading
from collections.abc import Mapping

from assembler.cache.hierarchical import HierarchicalCache
from assembler.cache.layout import fix_direct_layout
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.device_pools.nsa import NSATokenToKVPool
from assembler.errors import AssemblyError
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.group import HostPoolGroup
from assembler.params import CacheInitParams, ServerArgs
from assembler.stacks.attach import attach_hybrid_nsa_pool_to_hiradix_cache
from assembler.stacks.kv_only import build_kv_only_stack


class HiRadixCache(HierarchicalCache):
    """A cache over one MHA, MLA or NSA pool.

    The constructor builds no stack: :meth:`init_hicache` does, an attach function, or a builder
    whose result is given to :meth:`adopt`.

    Attributes:
        server_args: the settings that :meth:`init_hicache` builds with.
        load_cache_event: the signal that loads are wanted.

    Source: sglang 0.5.12 ``hiradix_cache.py``, which builds its stack in the constructor; the
        ledger is flat here, see :class:`~assembler.cache.hierarchical.HierarchicalCache`.
    """

    def __init__(self, params: CacheInitParams, server_args: ServerArgs) -> None:
        """Start empty and without a stack.

        Raises:
            AssemblyError: the pool is of another family.
        """
        super().__init__(params)
        kv = params.token_to_kv_pool_allocator.get_kvcache()
        if not isinstance(kv, MHATokenToKVPool | MLATokenToKVPool):
            raise AssemblyError(
                "HiRadixCache",
                "the pool must be of a family with one component",
                expected="MHA, MLA or NSA",
                got=type(kv).__name__,
            )
        self._kv = kv
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

    def init_hicache(
        self, *, extra_config: Mapping[str, object] | None, prefetch_threshold: int
    ) -> None:
        """Build and adopt the stack of the pool: latent rows and index, or one pool alone.

        Args:
            extra_config: the storage tier's own settings.
            prefetch_threshold: tokens below which storage is not asked.

        Raises:
            AssemblyError: the stack would not mirror the device pool.
        """
        fix_direct_layout(self.server_args)
        if isinstance(self._kv, NSATokenToKVPool):
            attach_hybrid_nsa_pool_to_hiradix_cache(
                self,
                self.params,
                self.server_args,
                extra_config=extra_config,
                prefetch_threshold=prefetch_threshold,
                enable_storage_metrics=self.params.enable_metrics,
                load_cache_event=self.load_cache_event,
                attn_cp_group=self.params.attn_cp_cache_group,
                attn_tp_group=self.params.attn_tp_cache_group,
            )
            return
        kv = self._kv
        host_pool_group, cache_controller = build_kv_only_stack(
            params=self.params,
            server_args=self.server_args,
            kv_pool=kv,
            full_layer_mapping={
                layer: layer - kv.start_layer for layer in range(kv.start_layer, kv.end_layer + 1)
            },
            page_size=self.page_size,
            tp_group=self.tp_group,
            load_cache_event=self.load_cache_event,
            attn_cp_group=self.params.attn_cp_cache_group,
            attn_tp_group=self.params.attn_tp_cache_group,
            storage_backend=self.server_args.hicache_storage_backend,
            use_mla=isinstance(kv, MLATokenToKVPool),
            override_kv_cache_dim=kv.kv_cache_dim if isinstance(kv, MLATokenToKVPool) else None,
            prefetch_threshold=prefetch_threshold,
            model_name=self.server_args.served_model_name,
            storage_backend_extra_config=extra_config,
            pp_rank=self.pp_rank,
            pp_size=self.pp_size,
            enable_storage_metrics=self.params.enable_metrics,
        )
        self.adopt(host_pool_group, cache_controller)
