"""Arrival of pages from storage: which of their host slots the cache keeps, and which are freed."""

from collections.abc import Mapping

import torch

from assembler.cache.keys import TOKEN_BYTES, RadixKey, token_ids
from assembler.cache.nodes import CacheNode
from assembler.cache.transfers import POOL_OF_COMPONENT
from assembler.cache.tree import RadixTree
from assembler.host_pools.group import HostPoolGroup
from assembler.names import ComponentType


class Arrival:
    """Pages behind a node, as storage brought them to the host.

    Args:
        anchor: the node before the first page; it is locked.
        key: the tokens of the pages.
        page_keys: storage keys of the pages.
        host: host slots by component: those of the full KV for every token of the pages, those of a
            window or a state for the last ones. The window may begin before the first page.
    """

    def __init__(
        self,
        *,
        anchor: CacheNode,
        key: bytes,
        page_keys: tuple[str, ...],
        host: Mapping[ComponentType, torch.Tensor],
    ) -> None:
        self._anchor = anchor
        self._key = key
        self._page_keys = page_keys
        self._host = host

    def insert(self, tree: RadixTree, group: HostPoolGroup) -> None:
        """Give the slots to nodes of the tree, a new one where it ends earlier; free the others.

        Others may have inserted some of the tokens meanwhile: those keep what they have.
        """
        before = b"".join(part.key for part in self._anchor.path())
        key = RadixKey(token_ids(before + self._key), tree.namespace_of(self._anchor))
        path = tree.walk(key)
        known = sum(len(node) for node in path) * TOKEN_BYTES - len(before)
        assert known >= 0, "the lock on the anchor keeps every token before the pages"
        full, start = self._host[ComponentType.FULL], known // TOKEN_BYTES
        spare = {ComponentType.FULL: full[:start]}
        if known < len(self._key):
            parent = path[-1] if path else tree.root(key.extra_key)
            leaf = tree.add(parent, self._key[known:])
            leaf.page_keys = self._page_keys[known // tree.page_bytes :]
            tree.host.put(leaf, ComponentType.FULL, full[start:].clone())
            path.append(leaf)
        if ComponentType.SWA in self._host:
            spare[ComponentType.SWA] = self._give_window(tree, path, self._host[ComponentType.SWA])
        if ComponentType.MAMBA in self._host:
            state = self._host[ComponentType.MAMBA]
            if _takes(path[-1], ComponentType.MAMBA):
                tree.host.put(path[-1], ComponentType.MAMBA, state)
            else:
                spare[ComponentType.MAMBA] = state
        for component, slots in spare.items():
            if len(slots):
                group.get_pool(POOL_OF_COMPONENT[component]).free(slots)

    @staticmethod
    def _give_window(tree: RadixTree, path: list[CacheNode], slots: torch.Tensor) -> torch.Tensor:
        """Give the last nodes the window slots that they lack; return the other slots."""
        spare: list[torch.Tensor] = []
        for node in reversed(path):
            num = min(len(node), len(slots))
            own, slots = slots[len(slots) - num :], slots[: len(slots) - num]
            if num and _takes(node, ComponentType.SWA):
                tree.host.put(node, ComponentType.SWA, own.clone())
            else:
                spare.append(own)
        return torch.cat([slots, *spare])


def _takes(node: CacheNode, component: ComponentType) -> bool:
    """Return whether a node lacks a component, and has the full KV that belongs to it."""
    return node.is_backed_up and component not in node.host and component not in node.device
