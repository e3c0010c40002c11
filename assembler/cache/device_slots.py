"""The allocators behind a cache: freeing a node's device slots and mapping its window slots."""

from collections import Counter
from collections.abc import Sequence

import torch

from assembler.allocators.swa import NO_SWA_SLOT
from assembler.cache.nodes import CacheNode
from assembler.controller.hybrid import HybridCacheController
from assembler.names import ComponentType
from assembler.params import CacheInitParams


class ComponentAllocators:
    """The allocators behind the components of a cache."""

    def __init__(self, params: CacheInitParams) -> None:
        allocator = params.token_to_kv_pool_allocator
        self._swa = allocator.window
        self._states = params.req_to_token_pool
        self._owners = dict(allocator.slot_owners)
        if self._states is not None:
            self._owners[ComponentType.MAMBA] = self._states.mamba_allocator

    def components(self) -> list[ComponentType]:
        """Return the components that the pools of this model have."""
        return list(self._owners)

    def available(self) -> Counter[ComponentType]:
        """Return the number of free slots of each component."""
        return Counter({part: owner.available_size() for part, owner in self._owners.items()})

    def free(
        self,
        node: CacheNode,
        components: Sequence[ComponentType],
        *,
        controller: HybridCacheController,
    ) -> None:
        """Free a node's slots of some components.

        Full slots take the window slots mapped to them along.
        """
        if ComponentType.MAMBA in components and self._states is not None:
            self._states.mamba_allocator.free(node.device[ComponentType.MAMBA])
        if ComponentType.FULL in components:
            # Frees the mapped window slots as well, so freeing SWA apart would free them twice.
            controller.evict_device(node.device[ComponentType.FULL])
        elif ComponentType.SWA in components and self._swa is not None:
            # By full slot: only the map knows which window slots are still in use.
            self._swa.free_swa(node.device[ComponentType.FULL])
        for component in components:
            del node.device[component]

    def map_window(self, node: CacheNode, *, is_mapped: bool) -> None:
        """Map the last full slots of a node to its window slots, or to none; nothing is freed."""
        if self._swa is not None and ComponentType.SWA in node.device:
            full, window = node.device[ComponentType.FULL], node.device[ComponentType.SWA]
            mapped = window if is_mapped else torch.full_like(window, NO_SWA_SLOT)
            self._swa.set_full_to_swa_mapping(full[len(full) - len(window) :], mapped)
