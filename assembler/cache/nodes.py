"""The ledger of a cache: which slots hold what, on the device and on the host.

The ledger is flat: a node is a block of tokens with no parent and no key, in order of last use.
Matching prefixes, splitting nodes and hashing tokens are not part of it yet.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from assembler.errors import AssemblyError
from assembler.names import ComponentType, PoolName

POOL_OF_COMPONENT = {
    ComponentType.FULL: PoolName.KV,
    ComponentType.SWA: PoolName.SWA,
    ComponentType.MAMBA: PoolName.MAMBA,
}


@dataclass(frozen=True, slots=True)
class EvictParams:
    """How many device slots of each component an eviction should free, at least."""

    num_tokens: int = 0
    swa_num_tokens: int = 0
    mamba_num: int = 0

    def wanted(self) -> dict[ComponentType, int]:
        """Return the wish by component."""
        return {
            ComponentType.FULL: self.num_tokens,
            ComponentType.SWA: self.swa_num_tokens,
            ComponentType.MAMBA: self.mamba_num,
        }


@dataclass(frozen=True, slots=True)
class EvictResult:
    """How many device slots of each component an eviction freed."""

    num_tokens_evicted: int
    swa_num_tokens_evicted: int
    mamba_num_evicted: int


@dataclass(slots=True, eq=False, kw_only=True)
class CacheNode:
    """A block of cached tokens.

    Attributes:
        id: unique in its ledger; names the node in acknowledgements.
        device: ``(slots,) int64`` device slots by component; empty when evicted.
        host: ``(slots,) int64`` host slots by component; empty when not backed up. All components
            are backed up together, so there is no half of a backup.
        lock_ref: users and copies in flight; nothing of a locked node is freed.
        hit_count: how often the node was used.
    """

    id: int
    device: dict[ComponentType, torch.Tensor] = field(default_factory=dict)
    host: dict[ComponentType, torch.Tensor] = field(default_factory=dict)
    lock_ref: int = 0
    hit_count: int = 0

    @property
    def is_backed_up(self) -> bool:
        """Whether the host has, or is about to have, the node."""
        return bool(self.host)

    @property
    def is_evicted(self) -> bool:
        """Whether the device has no part of the node."""
        return not self.device

    def missing_on_device(self) -> list[ComponentType]:
        """Return the components that only the host has."""
        return [component for component in self.host if component not in self.device]


class LruNodes:
    """Nodes from the one used longest ago to the one used last."""

    def __init__(self) -> None:
        self._nodes: OrderedDict[int, CacheNode] = OrderedDict()
        self._next_id = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[CacheNode]:
        """Iterate from the node used longest ago; nodes may leave the ledger meanwhile."""
        return iter(tuple(self._nodes.values()))

    def __contains__(self, node: CacheNode) -> bool:
        return self._nodes.get(node.id) is node

    def add(self, device: dict[ComponentType, torch.Tensor]) -> CacheNode:
        """Create the node of some device slots, as the one used last."""
        node = CacheNode(id=self._next_id, device=device)
        self._next_id += 1
        self._nodes[node.id] = node
        return node

    def touch(self, node: CacheNode) -> None:
        """Make ``node`` the one used last.

        Raises:
            AssemblyError: the node is not in the ledger: it was dropped, or belongs to another.
        """
        if node not in self:
            raise AssemblyError(
                f"node {node.id}", "must be cached", expected="a node of this cache", got="none"
            )
        self._nodes.move_to_end(node.id)

    def remove(self, node: CacheNode) -> None:
        """Forget ``node``."""
        del self._nodes[node.id]

    def clear(self) -> None:
        """Forget every node; ids are not used again."""
        self._nodes.clear()
