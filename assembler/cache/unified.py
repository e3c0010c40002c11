"""The cache for every pool family: plain, latent, sparse, sliding-window and state hybrids."""

import logging
import threading

from assembler.cache.stored import StoredCache
from assembler.cache.validation import fix_direct_layout
from assembler.params import CacheInitParams, ServerArgs
from assembler.stacks.attach import attach_hybrid_pool_to_unified_cache

logger = logging.getLogger(__name__)

LOAD_BACK_THRESHOLD = 256


class UnifiedRadixCache(StoredCache):
    """The radix cache whose components follow from the pools.

    Attributes:
        load_cache_event: the signal that loads are wanted; set by :meth:`init_hicache`.

    Source: sglang 0.5.12 ``unified_radix_cache.py``.
    """

    def __init__(self, params: CacheInitParams) -> None:
        super().__init__(params)
        self.load_cache_event: threading.Event | None = None

    def init_hicache(self, server_args: ServerArgs, params: CacheInitParams) -> None:
        """Build and adopt the stack for the model's pools.

        ``server_args`` is corrected in place, before any pool is built, when the io backend cannot
        move the layout it asks for.

        Raises:
            AssemblyError: the stack would not mirror the device pools.

        Source: sglang 0.5.12 ``unified_radix_cache.py:298-336`` (#25022).
        """
        fix_direct_layout(server_args)
        self.load_cache_event = threading.Event()
        self.sidecar_pool_specs.clear()
        attach_hybrid_pool_to_unified_cache(
            self,
            params,
            server_args,
            load_cache_event=self.load_cache_event,
            attn_cp_group=params.attn_cp_cache_group,
            attn_tp_group=params.attn_tp_cache_group,
        )
        self.load_back_threshold = LOAD_BACK_THRESHOLD
        logger.info(
            "hierarchical cache ready: host_pool_size=%d, write_policy=%s, tp_world_size=%d, "
            "transfer_layer_num=%d",
            self.host_pool_group.size,
            server_args.hicache_write_policy,
            1 if self.tp_group is None else self.tp_group.size(),
            self.cache_controller.layer_num,
        )
