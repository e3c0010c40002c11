"""The cache for models whose only component is the full KV."""

from typing_extensions import override

from assembler.cache.configured import AttachFunction, ConfiguredCache
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.device_pools.nsa import NSATokenToKVPool
from assembler.stacks.attach import adopt_plain_stack, attach_hybrid_nsa_pool_to_hiradix_cache


class HiRadixCache(ConfiguredCache):
    """A flat list of nodes over one MHA, MLA or NSA pool; it has no radix tree yet.

    Source: sglang 0.5.12 ``hiradix_cache.py``, which builds its stack in the constructor.
    """

    pool_families = (MHATokenToKVPool, MLATokenToKVPool)
    expected_families = ("the pool must be of a family with one component", "MHA, MLA or NSA")

    @override
    def _attach_function(self) -> AttachFunction:
        kv = self.token_to_kv_pool_allocator.get_kvcache()
        if isinstance(kv, NSATokenToKVPool):
            return attach_hybrid_nsa_pool_to_hiradix_cache
        return adopt_plain_stack
