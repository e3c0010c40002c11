"""Transfers of nodes: what a controller moves beside the full KV, and who gets the slots."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from assembler.cache.nodes import CacheNode
from assembler.host_pools.group import PoolTransfer, SidecarPoolSpec
from assembler.names import ComponentType, PoolHitPolicy, PoolName

POOL_OF_COMPONENT = {
    ComponentType.FULL: PoolName.KV,
    ComponentType.SWA: PoolName.SWA,
    ComponentType.MAMBA: PoolName.MAMBA,
}


@dataclass(slots=True, eq=False, kw_only=True)
class WritingNodes:
    """Nodes of one backup, first token first: the node that was backed up, and what a split made.

    Attributes:
        nodes: the node that the acknowledgement names is the last one.
    """

    nodes: list[CacheNode]

    def note_split(self, upper: CacheNode, lower: CacheNode) -> None:
        """Take in the new parent of a node that is being backed up."""
        if lower in self.nodes:
            self.nodes.insert(self.nodes.index(lower), upper)


@dataclass(slots=True, eq=False, kw_only=True)
class LoadingNodes:
    """Nodes of one load, first token first, with what each of them lacks on the device.

    Attributes:
        missing: by component, the nodes that lack it. A split adds the new half, so that a load
            that fails is taken back from both.
    """

    missing: dict[ComponentType, list[CacheNode]]

    def token_num(self) -> int:
        """Return the tokens whose full KV is loaded."""
        return sum(len(node) for node in self.missing.get(ComponentType.FULL, ()))

    def window_reach(self, node: CacheNode) -> int:
        """Return how many last tokens of the prefix up to ``node`` hold every loaded window."""
        first = self.missing.get(ComponentType.SWA, [None])[0]
        if first is None:
            return 0
        path = node.path()
        return sum(len(part) for part in path[path.index(first) :])

    def note_split(self, upper: CacheNode, lower: CacheNode) -> None:
        """Take in the new parent of a node that is being loaded."""
        for component, nodes in self.missing.items():
            if lower in nodes and component in upper.device:
                nodes.insert(nodes.index(lower), upper)

    def host_slots(self, component: ComponentType) -> torch.Tensor:
        """Return the host slots of a component, in order of tokens."""
        return torch.cat([node.host[component] for node in self.missing[component]])


def backup_transfers(
    node: CacheNode, missing: Sequence[ComponentType]
) -> dict[ComponentType, PoolTransfer]:
    """Return a transfer for each missing component beside the full KV, without host slots."""
    return {
        component: PoolTransfer(
            name=POOL_OF_COMPONENT[component],
            device_indices=node.device[component],
            hit_policy=PoolHitPolicy.TRAILING_PAGES,
        )
        for component in missing
        if component is not ComponentType.FULL
    }


def load_transfers(loading: LoadingNodes) -> dict[ComponentType, PoolTransfer]:
    """Return a transfer for each missing component beside the full KV, without device slots."""
    return {
        component: PoolTransfer(
            name=POOL_OF_COMPONENT[component],
            host_indices=loading.host_slots(component),
            hit_policy=PoolHitPolicy.TRAILING_PAGES,
            nodes_to_load=list(nodes),
        )
        for component, nodes in loading.missing.items()
        if component is not ComponentType.FULL
    }


def state_copies(loading: LoadingNodes, slot: torch.Tensor | None) -> list[PoolTransfer]:
    """Return the transfer of a loaded state to one more device slot; none without state or slot."""
    if slot is None or ComponentType.MAMBA not in loading.missing:
        return []
    return [
        PoolTransfer(
            name=POOL_OF_COMPONENT[ComponentType.MAMBA],
            host_indices=loading.host_slots(ComponentType.MAMBA),
            device_indices=slot,
            hit_policy=PoolHitPolicy.TRAILING_PAGES,
        )
    ]


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
