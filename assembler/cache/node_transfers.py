"""Transfers of a node beside its full KV: its other components, and the sidecars of all."""

from collections.abc import Iterable, Sequence

from assembler.cache.nodes import POOL_OF_COMPONENT, CacheNode
from assembler.host_pools.group import PoolTransfer, SidecarPoolSpec
from assembler.names import ComponentType, PoolHitPolicy


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
