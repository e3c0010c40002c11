"""The allocators behind a cache: freeing device slots and mapping window slots."""

from collections import Counter
from collections.abc import Mapping

import torch

from assembler.allocators.swa import NO_SWA_SLOT
from assembler.controller.hybrid import HybridCacheController
from assembler.names import ComponentType
from assembler.params import CacheInitParams


class ComponentAllocators:
    """The allocators behind the components of a cache."""

    def __init__(self, params: CacheInitParams) -> None:
        self._allocator = params.token_to_kv_pool_allocator
        self._swa = self._allocator.window
        self._states = params.req_to_token_pool
        self._owners = dict(self._allocator.slot_owners)
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
        parts: Mapping[ComponentType, torch.Tensor],
        *,
        full: torch.Tensor,
        controller: HybridCacheController,
    ) -> None:
        """Free slots of some components of a node, whose full slots are ``full``.

        Full slots take the window slots mapped to them along.
        """
        if ComponentType.MAMBA in parts and self._states is not None:
            self._states.mamba_allocator.free(parts[ComponentType.MAMBA])
        if ComponentType.FULL in parts:
            # Frees the mapped window slots as well, so freeing SWA apart would free them twice.
            controller.evict_device(full)
        elif ComponentType.SWA in parts:
            # By full slot: only the map knows which window slots are still in use.
            self.free_windows_of(full)

    def free_inserted(self, full: torch.Tensor) -> None:
        """Free full slots of a caller, and the window slots mapped to them."""
        self._allocator.free(full)

    def free_windows_of(self, full: torch.Tensor) -> None:
        """Free the window slots that some full slots still have; the full slots stay in use."""
        if self._swa is not None:
            self._swa.free_swa(full)

    def free_window(self, window: torch.Tensor) -> None:
        """Free window slots that no full slot maps to."""
        if self._swa is not None and len(window):
            self._swa.swa_attn_allocator.free(window)

    def windows_of(self, full: torch.Tensor) -> torch.Tensor:
        """Return the window slots of full slots, which all have one."""
        assert self._swa is not None, "only a cache with windows asks"
        return self._swa.full_to_swa(full)

    def map_window(self, full: torch.Tensor, window: torch.Tensor) -> None:
        """Map the last of some full slots to window slots; nothing is freed."""
        if self._swa is not None:
            self._swa.set_full_to_swa_mapping(full[len(full) - len(window) :], window)

    def unmap_window(self, full: torch.Tensor) -> None:
        """Map full slots to no window slot; nothing is freed."""
        if self._swa is not None:
            self._swa.set_full_to_swa_mapping(full, torch.full_like(full, NO_SWA_SLOT))
