"""Moves of nodes between device and host: requests to the controller, and what nodes get."""

from collections.abc import Callable, Mapping, Sequence

import torch

from assembler.cache.device_slots import ComponentAllocators
from assembler.cache.nodes import CacheNode
from assembler.cache.transfers import (
    LoadingNodes,
    backup_transfers,
    load_transfers,
    sidecar_transfers,
    state_copies,
)
from assembler.cache.tree import RadixTree
from assembler.controller.hybrid import HybridCacheController
from assembler.host_pools.group import SidecarPoolSpec
from assembler.names import ComponentType


class NodeMoves:
    """Requests of a cache to its controller.

    ``make_room`` frees full slots on the host, ``make_device_room`` on the device.
    """

    def __init__(
        self,
        *,
        tree: RadixTree,
        controller: HybridCacheController,
        allocators: ComponentAllocators,
        specs: Sequence[SidecarPoolSpec],
        make_room: Callable[[int], object],
        make_device_room: Callable[[int], object],
    ) -> None:
        self._tree = tree
        self._controller = controller
        self._allocators = allocators
        self._specs = specs
        self._make_room = make_room
        self._make_device_room = make_device_room

    def write(self, node: CacheNode) -> bool:
        """Start copying what the host lacks of a node; return False when the host has no room."""
        missing = node.missing_on_host()
        host = self._write(node, missing)
        if host is None and ComponentType.FULL in missing:
            self._make_room(len(node))
            host = self._write(node, missing)
        if host is None:
            return False
        for component, slots in host.items():
            self._tree.host.put(node, component, slots)
        return True

    def load(self, node: CacheNode, loading: LoadingNodes, state_slot: torch.Tensor | None) -> bool:
        """Queue one load of several nodes; return False when the device has no room.

        ``node`` names the load in its acknowledgement; ``state_slot`` gets a copy of its state.
        """
        token_num = loading.token_num()
        is_queued = self._load(node, loading, state_slot)
        if not is_queued and token_num:
            self._make_device_room(token_num)
            is_queued = self._load(node, loading, state_slot)
        return is_queued

    def _load(
        self, node: CacheNode, loading: LoadingNodes, state_slot: torch.Tensor | None
    ) -> bool:
        parts = load_transfers(loading)
        copies = state_copies(loading, state_slot)
        full = loading.missing.get(ComponentType.FULL)
        none = torch.empty((0,), dtype=torch.int64)
        loaded = self._controller.load(
            loading.host_slots(ComponentType.FULL) if full else none,
            node_id=node.id,
            extra_pools=[
                *parts.values(),
                *copies,
                *sidecar_transfers(self._specs, loading.missing),
            ],
        )
        if loaded is None:
            return False
        if full:
            self._share(ComponentType.FULL, full, loaded)
        for component, part in parts.items():
            self._share(component, loading.missing[component], part.resolved()[1])
        for mapped in loading.missing.get(ComponentType.SWA, ()):
            device = mapped.device
            self._allocators.map_window(device[ComponentType.FULL], device[ComponentType.SWA])
        return True

    def undo_load(self, loading: LoadingNodes) -> None:
        """Take the slots of a load from its nodes; the controller freed them."""
        for node in loading.missing.get(ComponentType.SWA, ()):
            # The window slots were freed with the load; a stale map would free them again together
            # with the full slots.
            window, full = node.device[ComponentType.SWA], node.device[ComponentType.FULL]
            self._allocators.unmap_window(full[len(full) - len(window) :])
            # What an insertion added since has no continuation any more.
            added = len(window) - len(node.host[ComponentType.SWA])
            self._allocators.free_window(window[:added])
        for component, nodes in loading.missing.items():
            for node in nodes:
                self._tree.device.take(node, component)

    def _write(
        self, node: CacheNode, missing: Sequence[ComponentType]
    ) -> Mapping[ComponentType, torch.Tensor] | None:
        """Back up some components of a node; return their host slots, or None without space."""
        parts = backup_transfers(node, missing)
        has_full = ComponentType.FULL in missing
        full = node.device[ComponentType.FULL]
        host = self._controller.write(
            full if has_full else full[:0],
            node_id=node.id,
            extra_pools=[*parts.values(), *sidecar_transfers(self._specs, missing)],
        )
        if host is None:
            return None
        sides = {component: part.resolved()[0] for component, part in parts.items()}
        return {ComponentType.FULL: host, **sides} if has_full else sides

    def _share(
        self, component: ComponentType, nodes: Sequence[CacheNode], slots: torch.Tensor
    ) -> None:
        """Give each node its part of the slots of a load."""
        sizes = [len(node.host[component]) for node in nodes]
        for node, part in zip(nodes, slots.split(sizes), strict=True):
            self._tree.device.put(node, component, part)
