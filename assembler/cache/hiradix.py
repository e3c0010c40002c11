"""The cache for models whose only component is the full KV."""

from typing_extensions import override

from assembler.cache.configured import ConfiguredCache
from assembler.names import ComponentType
from assembler.stacks.attach import (
    AttachArguments,
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
    def _attach(self, arguments: AttachArguments) -> None:
        if has_sidecar(self.params):
            attach_hybrid_nsa_pool_to_hiradix_cache(
                self, self.params, self.server_args, **arguments
            )
        else:
            adopt_plain_stack(self, self.params, self.server_args, arguments)
