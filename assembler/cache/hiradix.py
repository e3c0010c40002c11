"""The cache for models whose only component is the full KV."""

from typing_extensions import override

from assembler.cache.configured import AttachFunction, ConfiguredCache
from assembler.names import ComponentType
from assembler.stacks.attach import (
    adopt_plain_stack,
    attach_hybrid_nsa_pool_to_hiradix_cache,
    has_sidecar,
)


class HiRadixCache(ConfiguredCache):
    """A flat list of nodes over one pool of full attention; it has no radix tree yet.

    Source: sglang 0.5.12 ``hiradix_cache.py``, which builds its stack in the constructor.
    """

    components = (ComponentType.FULL,)

    @override
    def _attach_function(self) -> AttachFunction:
        if has_sidecar(self.params):
            return attach_hybrid_nsa_pool_to_hiradix_cache
        return adopt_plain_stack
