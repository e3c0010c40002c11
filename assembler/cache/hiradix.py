"""The caches that get their server arguments in the constructor."""

import threading
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from typing_extensions import override

from assembler.cache.stored import StoredCache
from assembler.cache.validation import fix_direct_layout
from assembler.errors import AssemblyError
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.group import HostPoolGroup
from assembler.names import ComponentType, PoolName
from assembler.params import CacheInitParams, ServerArgs
from assembler.stacks.attach import (
    AttachArguments,
    adopt_plain_stack,
    attach_hybrid_nsa_pool_to_hiradix_cache,
    attach_hybrid_pool_to_mamba_cache,
    has_sidecar,
)


class ConfiguredCache(StoredCache):
    """A cache whose :meth:`init_hicache` builds with the server arguments of the constructor.

    The constructor builds no stack: :meth:`init_hicache` does, an attach function, or a builder
    whose result is given to :meth:`adopt`.

    Attributes:
        components: the parts of a node that the model's pools must have.
        server_args: the settings that :meth:`init_hicache` builds with.
        load_cache_event: the signal that loads are wanted.
    """

    components: ClassVar[tuple[ComponentType, ...]]

    def __init__(self, params: CacheInitParams, server_args: ServerArgs) -> None:
        """Start empty and without a stack; raise AssemblyError for pools of other components."""
        super().__init__(params)
        kv = params.token_to_kv_pool_allocator.get_kvcache()
        if kv.components != self.components:
            rule, expected = (
                "the pools must have the cache's components",
                " and ".join(self.components),
            )
            got = f"{' and '.join(kv.components)} of {type(kv).__name__}"
            raise AssemblyError(type(self).__name__, rule, expected=expected, got=got)
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
        """Build and adopt the stack of the pools; the arguments are those of its storage tier.

        Raises:
            AssemblyError: the stack would not mirror the device pools.
        """
        fix_direct_layout(self.server_args)
        self._attach(
            AttachArguments(
                extra_config=extra_config,
                prefetch_threshold=prefetch_threshold,
                enable_storage_metrics=self.params.enable_metrics,
                load_cache_event=self.load_cache_event,
                attn_cp_group=self.params.attn_cp_cache_group,
                attn_tp_group=self.params.attn_tp_cache_group,
            )
        )

    @abstractmethod
    def _attach(self, arguments: AttachArguments) -> None:
        """Build and adopt the stack of this cache's pools."""


class HiRadixCache(ConfiguredCache):
    """The radix cache of models with one pool of full attention.

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


class HiMambaRadixCache(ConfiguredCache):
    """The radix cache of models with full KV and recurrent states.

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
