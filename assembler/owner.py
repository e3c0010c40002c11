"""The interface of a cache towards its stack: adopting one, and making room for its pools."""

from dataclasses import dataclass
from typing import Protocol

from assembler.controller.hybrid import HybridCacheController
from assembler.host_pools.group import HostPoolGroup, SidecarPoolSpec
from assembler.names import ComponentType


@dataclass(frozen=True, slots=True)
class EvictParams:
    """Device slots of each component that an eviction should free, at least."""

    num_tokens: int = 0
    swa_num_tokens: int = 0
    mamba_num: int = 0

    def wanted(self) -> dict[ComponentType, int]:
        """Return the numbers by component."""
        return {
            ComponentType.FULL: self.num_tokens,
            ComponentType.SWA: self.swa_num_tokens,
            ComponentType.MAMBA: self.mamba_num,
        }


@dataclass(frozen=True, slots=True)
class EvictResult:
    """Device slots of each component that an eviction freed."""

    num_tokens_evicted: int
    swa_num_tokens_evicted: int
    mamba_num_evicted: int


class StackOwner(Protocol):
    """A cache as the attach functions see it."""

    def register_sidecar_pool(self, spec: SidecarPoolSpec) -> None:
        """Move a pool along with every operation, on another pool's slots."""
        ...

    def adopt(
        self, host_pool_group: HostPoolGroup, cache_controller: HybridCacheController
    ) -> None:
        """Use a stack from now on."""
        ...

    def evict(self, params: EvictParams) -> EvictResult:
        """Free device slots."""
        ...

    def evict_host(self, num: int, component: ComponentType) -> int:
        """Free host slots of a component and return how many."""
        ...
