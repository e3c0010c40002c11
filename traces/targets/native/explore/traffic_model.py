"""Model of the contents that traffic leaves in a native stack."""

from dataclasses import dataclass, field

import torch

from assembler import PoolName
from assembler.cache.nodes import CacheNode
from assembler.cache.prefixes import IncLockRefResult
from assembler.device_pools.base import SlotAllocator
from assembler.host_pools.base import HostKVCache


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNode:
    """A node and the bytes that were written for it: by pool, the rows of each of its buffers."""

    node: CacheNode
    content: dict[PoolName, list[torch.Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchedLoad:
    """A load that waits for its forward pass."""

    producer: int
    numbers: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRead:
    """Bytes that a reader copied, to be compared when the device is idle."""

    reader: str
    copied: torch.Tensor
    content: torch.Tensor


@dataclass(slots=True, kw_only=True)
class ReservedSlots:
    """Slots that traffic took away from one owner."""

    owner: SlotAllocator | HostKVCache
    slots: torch.Tensor


@dataclass(slots=True, kw_only=True)
class TrafficModel:
    """The state that a stack must have after the traffic so far.

    Attributes:
        nodes: that exist, by number.
        locks: that requests hold on nodes that are loaded for them, by number.
        queued: numbers of nodes whose load waits to be launched.
        launched: oldest first.
        pending_reads: since the last comparison.
    """

    nodes: dict[int, ModelNode] = field(default_factory=dict)
    locks: dict[int, IncLockRefResult] = field(default_factory=dict)
    queued: list[int] = field(default_factory=list)
    launched: list[LaunchedLoad] = field(default_factory=list)
    pending_reads: list[PendingRead] = field(default_factory=list)
    reserved: list[ReservedSlots] = field(default_factory=list)

    def forget_dropped(self) -> None:
        """Drop the nodes that the cache dropped."""
        nodes = self.nodes.items()
        self.nodes = {at: known for at, known in nodes if known.node.device or known.node.host}

    def forget_cache(self) -> None:
        """Drop the nodes of a reset cache, and the reserved host slots, which it frees."""
        self.nodes.clear()
        self.locks.clear()
        self.queued = []
        self.launched.clear()
        self.reserved = [one for one in self.reserved if not isinstance(one.owner, HostKVCache)]
