"""The cache for hybrids of attention and recurrent states."""

from typing_extensions import override

from assembler.cache.configured import ConfiguredCache
from assembler.host_pools.base import HostKVCache
from assembler.names import ComponentType, PoolName
from assembler.stacks.attach import AttachArguments, attach_hybrid_pool_to_mamba_cache


class HiMambaRadixCache(ConfiguredCache):
    """A flat list of nodes of full KV and one recurrent state; it has no radix tree yet.

    Source: sglang 0.5.12 ``hi_mamba_radix_cache.py``, which builds its stack in the constructor.
    """

    components = (ComponentType.FULL, ComponentType.MAMBA)

    @property
    def mamba_pool_host(self) -> HostKVCache:
        """The states' host pool."""
        return self.host_pool_group.get_pool(PoolName.MAMBA)

    @override
    def _attach(self, arguments: AttachArguments) -> None:
        attach_hybrid_pool_to_mamba_cache(self, self.params, self.server_args, **arguments)
