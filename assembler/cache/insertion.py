"""Insertion of tokens: which of the caller's slots the cache keeps, and which are freed."""

from collections.abc import Sequence

import torch

from assembler.cache.device_slots import ComponentAllocators
from assembler.cache.keys import TOKEN_BYTES
from assembler.cache.nodes import CacheNode
from assembler.cache.prefixes import InsertParams
from assembler.cache.tree import RadixTree
from assembler.errors import AssemblyError
from assembler.names import ComponentType


class Insertion:
    """One insertion into a tree, after its tokens were looked up.

    Attributes:
        prefix_len: tokens that the tree has already.
    """

    def __init__(
        self,
        params: InsertParams,
        *,
        path: Sequence[CacheNode],
        tree: RadixTree,
        allocators: ComponentAllocators,
        has_window: bool,
    ) -> None:
        self._params = params
        self._path = path
        self._tree = tree
        self._allocators = allocators
        self._has_window = has_window
        self._spare: list[torch.Tensor] = []
        self.prefix_len = sum(len(node) for node in path)

    def run(self, root: CacheNode) -> list[CacheNode]:
        """Hand the slots over and free those that nobody needs; return the nodes of the tokens.

        Raises:
            AssemblyError: there are fewer slots than tokens, or slots are said to be the cache's
                where it has none; nothing is changed then.
        """
        whole = len(self._params.key.data) // self._tree.page_bytes * self._tree.page_bytes
        self._check(whole // TOKEN_BYTES)
        start = 0
        for node in self._path:
            self._take_over(node, start)
            start += len(node)
        if self._spare:
            self._allocators.free_inserted(torch.cat(self._spare))
        nodes = list(self._path)
        if start * TOKEN_BYTES < whole:
            parent = nodes[-1] if nodes else root
            leaf = self._tree.add(parent, self._params.key.data[start * TOKEN_BYTES : whole])
            self._give(leaf, start)
            nodes.append(leaf)
        return nodes

    def _check(self, token_num: int) -> None:
        """Raise AssemblyError unless every token has a slot, each with one owner."""
        value, own = self._params.value, self._params.prev_prefix_len
        if len(value) < token_num:
            rule = "every token must have a slot"
            raise AssemblyError("insert", rule, expected=f"{token_num} slots", got=len(value))
        resident = 0
        for node in self._path:
            if node.is_evicted:
                break
            resident += len(node)
        if own > resident:
            rule = "slots that are the cache's already must be those of cached tokens"
            raise AssemblyError("insert", rule, expected=f"at most {resident} tokens", got=own)

    def _take_over(self, node: CacheNode, start: int) -> None:
        """Give a cached node what it lacks on the device; the rest of its slots is spare."""
        own, end = self._params.prev_prefix_len, start + len(node)
        if node.is_evicted:
            self._give(node, start)
            return
        if end <= own:
            return
        first = max(start, own)
        if self._has_window and start >= own:
            self._complete_window(node, start)
        self._spare.append(self._params.value[first:end])

    def _give(self, node: CacheNode, start: int) -> None:
        """Give a node full slots, and the window slots that they have."""
        full = self._params.value[start : start + len(node)].clone()
        self._tree.device.put(node, ComponentType.FULL, full)
        num = self._window_num(node, start)
        if num < len(node.host.get(ComponentType.SWA, ())):
            # A load brings more window slots back than the caller has.
            self._allocators.free_windows_of(full)
        elif num:
            window = self._allocators.windows_of(full[len(full) - num :])
            self._tree.device.put(node, ComponentType.SWA, window)

    def _complete_window(self, node: CacheNode, start: int) -> None:
        """Move window slots from the caller's full slots to those of a node that has fewer."""
        have = node.device.swa
        have_num = 0 if have is None else len(have)
        num = self._window_num(node, start)
        # Never fewer than the host has: a load would bring back the rest.
        if num <= have_num or num < len(node.host.get(ComponentType.SWA, ())):
            return
        end = start + len(node)
        spare = self._params.value[end - num : end - have_num]
        window = self._allocators.windows_of(spare)
        # Before the caller's full slots are freed, which frees the window slots that they map to.
        self._allocators.unmap_window(spare)
        if have is not None:
            window = torch.cat([window, self._tree.device.take(node, ComponentType.SWA)])
        self._tree.device.put(node, ComponentType.SWA, window)
        self._allocators.map_window(node.device[ComponentType.FULL], window)

    def _window_num(self, node: CacheNode, start: int) -> int:
        """Return how many last tokens of a node the caller has window slots for."""
        if not self._has_window:
            return 0
        page = self._tree.page_bytes // TOKEN_BYTES
        gone = -(-self._params.swa_evicted_seqlen // page) * page
        return max(0, min(len(node), start + len(node) - gone))
