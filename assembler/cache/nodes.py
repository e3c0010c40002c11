"""Nodes of a cache, in order of last use: blocks of tokens, their slots and their transfers.

A node has no parent and no key: matching prefixes, splitting nodes and hashing tokens come with the
radix tree, which this package does not have yet.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from assembler.errors import AssemblyError
from assembler.host_pools.group import PoolTransfer, SidecarPoolSpec
from assembler.names import ComponentType, PoolHitPolicy, PoolName

POOL_OF_COMPONENT = {
    ComponentType.FULL: PoolName.KV,
    ComponentType.SWA: PoolName.SWA,
    ComponentType.MAMBA: PoolName.MAMBA,
}


@dataclass(slots=True, eq=False, kw_only=True)
class CacheNode:
    """A block of cached tokens.

    Attributes:
        id: unique in its cache; names the node in acknowledgements.
        device: ``(slots,) int64`` device slots by component; empty when evicted.
        host: ``(slots,) int64`` host slots by component; empty when not backed up. All components
            are backed up together, so there is no half of a backup.
        lock_ref: users and copies in flight; nothing of a locked node is freed.
        hit_count: number of uses.
    """

    id: int
    device: dict[ComponentType, torch.Tensor] = field(default_factory=dict)
    host: dict[ComponentType, torch.Tensor] = field(default_factory=dict)
    lock_ref: int = 0
    hit_count: int = 0

    @property
    def is_backed_up(self) -> bool:
        """True when the host has, or is about to have, the node."""
        return bool(self.host)

    @property
    def is_evicted(self) -> bool:
        """True when the device has no part of the node."""
        return not self.device

    def missing_on_device(self) -> list[ComponentType]:
        """Return the components that only the host has."""
        return [component for component in self.host if component not in self.device]


class LruNodes:
    """Nodes of a cache, least recently used first."""

    def __init__(self) -> None:
        self._nodes: OrderedDict[int, CacheNode] = OrderedDict()
        self._next_id = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[CacheNode]:
        """Iterate from the least recently used node; nodes may be removed meanwhile."""
        return iter(tuple(self._nodes.values()))

    def __contains__(self, node: CacheNode) -> bool:
        return self._nodes.get(node.id) is node

    def add(self, device: dict[ComponentType, torch.Tensor]) -> CacheNode:
        """Create the node of some device slots, as the most recently used one."""
        node = CacheNode(id=self._next_id, device=device)
        self._next_id += 1
        self._nodes[node.id] = node
        return node

    def touch(self, node: CacheNode) -> None:
        """Make ``node`` the last used one; raise AssemblyError unless it is this cache's."""
        if node not in self:
            rule, expected = "must be cached", "a node of this cache"
            raise AssemblyError(f"node {node.id}", rule, expected=expected, got="none")
        self._nodes.move_to_end(node.id)

    def remove(self, node: CacheNode) -> None:
        """Remove ``node``."""
        del self._nodes[node.id]

    def clear(self) -> None:
        """Remove every node; ids are not used again."""
        self._nodes.clear()


def backup_transfers(node: CacheNode) -> dict[ComponentType, PoolTransfer]:
    """Return a transfer for each component beside the full KV; host slots are still missing."""
    return {
        component: PoolTransfer(
            name=POOL_OF_COMPONENT[component],
            device_indices=indices,
            hit_policy=PoolHitPolicy.TRAILING_PAGES,
        )
        for component, indices in node.device.items()
        if component is not ComponentType.FULL
    }


def load_transfers(
    node: CacheNode, missing: Sequence[ComponentType]
) -> dict[ComponentType, PoolTransfer]:
    """Return a transfer for each missing component beside the full KV, without device slots."""
    return {
        component: PoolTransfer(
            name=POOL_OF_COMPONENT[component],
            host_indices=node.host[component],
            hit_policy=PoolHitPolicy.TRAILING_PAGES,
            nodes_to_load=[node],
        )
        for component in missing
        if component is not ComponentType.FULL
    }


def sidecar_transfers(
    specs: Iterable[SidecarPoolSpec], components: Iterable[ComponentType]
) -> list[PoolTransfer]:
    """Return a fresh transfer for each sidecar whose source is among the moving components."""
    moving = {POOL_OF_COMPONENT[component] for component in components}
    return [
        PoolTransfer(
            name=spec.pool_name,
            hit_policy=spec.hit_policy,
            indices_from_pool=spec.indices_from_pool,
        )
        for spec in specs
        if spec.indices_from_pool in moving
    ]
