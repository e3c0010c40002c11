"""The plain model that traffic on a native stack is compared with."""

from dataclasses import dataclass, field

import torch

from assembler import PoolName
from assembler.allocators.base import DeviceSlotAllocator
from assembler.allocators.mamba import MambaSlotAllocator
from assembler.cache.nodes import CacheNode
from assembler.host_pools.base import HostKVCache


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A node and the bytes that were written for it: by pool, the rows of each of its buffers."""

    node: CacheNode
    content: dict[PoolName, list[torch.Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A load that waits for its forward pass."""

    producer: int
    numbers: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a reader copied, to be compared when the device is idle."""

    who: str
    copied: torch.Tensor
    content: torch.Tensor


@dataclass(slots=True, kw_only=True)
class Hoarded:
    """Slots that traffic took away from one owner."""

    owner: DeviceSlotAllocator | MambaSlotAllocator | HostKVCache
    slots: torch.Tensor


@dataclass(slots=True, kw_only=True)
class State:
    """The plain model: what traffic did so far, and what must come of it.

    Attributes:
        nodes: that exist, by number.
        queued: numbers of nodes whose load waits to be launched.
        launched: loads that wait for their forward pass, oldest first.
        seen: what readers copied since the last comparison.
        hoards: slots that traffic took away.
    """

    nodes: dict[int, Known] = field(default_factory=dict)
    queued: list[int] = field(default_factory=list)
    launched: list[Launched] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    hoards: list[Hoarded] = field(default_factory=list)

    def forget_dropped(self) -> None:
        """Forget the nodes that the cache forgot."""
        self.nodes = {
            number: known
            for number, known in self.nodes.items()
            if known.node.device or known.node.host
        }

    def forget_cache(self) -> None:
        """Forget what a reset cache forgets, which clears the host pools of what was hoarded."""
        self.nodes.clear()
        self.queued = []
        self.launched.clear()
        self.hoards = [hoard for hoard in self.hoards if not isinstance(hoard.owner, HostKVCache)]
