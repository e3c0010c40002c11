"""Operations of a cache on its storage tier: backups of nodes, and prefetches for requests."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch

from assembler.cache.arrival import Arrival
from assembler.cache.keys import TOKEN_BYTES, RadixKey, token_ids
from assembler.cache.nodes import CacheNode
from assembler.cache.transfers import POOL_OF_COMPONENT
from assembler.cache.tree import RadixTree
from assembler.controller.hybrid import HybridCacheController
from assembler.errors import StorageError
from assembler.host_pools.group import HostPoolGroup
from assembler.names import ComponentType
from assembler.storage.hooks import NodeBackup, Prefetch, PrefetchResult, StorageHooks

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoringNode:
    """A node whose pages are being stored, and the components that it had on the host then."""

    node: CacheNode
    components: frozenset[ComponentType]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PendingPrefetch:
    """Pages that are being fetched for a request.

    Attributes:
        anchor: the node before the first page, which is locked.
        key: the tokens of the pages.
        keys: storage keys of the pages.
        host: host slots by component that nobody else has.
    """

    anchor: CacheNode
    key: bytes
    keys: tuple[str, ...]
    host: dict[ComponentType, torch.Tensor]


class StorageMoves:
    """Backups and prefetches of the nodes of a tree, on the tier that the controller has attached.

    Attributes:
        ongoing_backup: nodes being stored, by id; their host slots are locked.
        ongoing_prefetch: prefetches by request; the nodes before their pages are locked.

    Args:
        tree: the nodes.
        group: the host pools.
        controller: has the storage tier, or has none.
        trailing: by component beside the full KV, a function that returns how many slots the end of
            a prefix of some tokens needs.
        make_host_room: frees host slots of a component.
    """

    def __init__(
        self,
        *,
        tree: RadixTree,
        group: HostPoolGroup,
        controller: HybridCacheController,
        trailing: dict[ComponentType, Callable[[int], int]],
        make_host_room: Callable[[int, ComponentType], object],
    ) -> None:
        self.ongoing_backup: dict[int, StoringNode] = {}
        self.ongoing_prefetch: dict[str, PendingPrefetch] = {}
        self._tree = tree
        self._group = group
        self._controller = controller
        self._trailing = trailing
        self._make_host_room = make_host_room
        self._tier: StorageHooks | None = None

    def back_up(self, node: CacheNode) -> None:
        """Start storing the pages of a node that is on the host, unless that is under way.

        Order: its host copy is finished, and its host slots stay until the backup is.
        """
        tier = self._open_tier()
        if tier is None or not node.is_backed_up or node.id in self.ongoing_backup:
            return
        try:
            keys = self._keys_of(node, tier)
        except StorageError as error:
            logger.warning("node %d is not stored: %s", node.id, error)
            return
        tier.start_backup(NodeBackup(node_id=node.id, keys=keys, host=dict(node.host)))
        self._tree.lock_host(node)
        self.ongoing_backup[node.id] = StoringNode(node=node, components=frozenset(node.host))

    def finish_backups(self) -> None:
        """Unlock the nodes whose backup ended; store what they got meanwhile."""
        tier = self._open_tier()
        if tier is None or not self.ongoing_backup:
            return
        for node_id in tier.finished_backups():
            # Callers may use the tier beside the cache, with node ids of their own.
            if node_id not in self.ongoing_backup:
                continue
            storing = self.ongoing_backup.pop(node_id)
            self._tree.unlock_host(storing.node)
            if storing.node.host.keys() > storing.components:
                self.back_up(storing.node)

    def hit_length(self, anchor: CacheNode, tokens: Sequence[int]) -> int:
        """Return how many of the tokens behind a node storage has, in whole pages."""
        tier = self._open_tier()
        if tier is None:
            return 0
        keys = self._keys_behind(anchor, self._whole(tokens), tier)
        return tier.hit_pages(keys) * self._group.page_size

    def prefetch(self, request_id: str, anchor: CacheNode, tokens: Sequence[int]) -> bool:
        """Start fetching the tokens behind a node that the host has, or behind a root.

        Returns:
            False when there is no tier, when it refuses, or when the host has no room.

        Raises:
            AssemblyError: the node has left the tree.
            StorageError: a prefetch of that request is under way.
        """
        self._tree.require(anchor)
        tier, key = self._open_tier(), self._whole(tokens)
        if tier is None or not tier.accepts(request_id, len(key) // TOKEN_BYTES):
            return False
        if anchor.parent is not None and not anchor.is_backed_up:
            return False
        # Locked before slots are taken: the eviction for them must not choose this very node.
        self._tree.lock_host(anchor)
        host: dict[ComponentType, torch.Tensor] = {}
        with ExitStack() as undo:
            undo.callback(self._tree.unlock_host, anchor)
            undo.callback(self._give_back, host)
            pending = self._start_prefetch(request_id, anchor, key, host)
            if pending is None:
                return False
            undo.pop_all()
        self.ongoing_prefetch[request_id] = pending
        return True

    def finish_prefetch(self, request_id: str) -> bool:
        """Return whether no prefetch of a request is under way; what arrived is in the tree then.

        Raises:
            CollectiveError: the ranks could not agree.
            Exception: the error that ended the prefetch.
        """
        if self._open_tier() is None or request_id not in self.ongoing_prefetch:
            return True
        result = self._result(request_id, abort=False)
        if result is None:
            return False
        pending = self.ongoing_prefetch.pop(request_id)
        self._insert(pending, result)
        self._tree.unlock_host(pending.anchor)
        return True

    def abort_prefetch(self, request_id: str) -> bool:
        """End the prefetch of a request and drop its pages.

        Returns:
            False while another rank goes on with it; ask again then.
        """
        if self._open_tier() is None or request_id not in self.ongoing_prefetch:
            return True
        if self._result(request_id, abort=True) is None:
            return False
        self._drop(request_id)
        return True

    def release(self) -> None:
        """Unlock every node and free the slots of every prefetch; the tier has ended them."""
        for storing in self.ongoing_backup.values():
            self._tree.unlock_host(storing.node)
        self.ongoing_backup.clear()
        for request_id in tuple(self.ongoing_prefetch):
            self._drop(request_id)

    def forget(self) -> None:
        """Forget every operation; the tier has ended them, and no node or slot is left."""
        self.ongoing_backup.clear()
        self.ongoing_prefetch.clear()

    def _open_tier(self) -> StorageHooks | None:
        """Return the tier; one that was detached has ended its operations."""
        tier = self._controller.storage_tier
        if tier is not self._tier:
            self.release()
            self._tier = tier
        return tier

    def _whole(self, tokens: Sequence[int]) -> bytes:
        """Return the whole pages of some tokens, as a key has them."""
        data = RadixKey(tokens).data
        return data[: len(data) // self._tree.page_bytes * self._tree.page_bytes]

    def _keys_of(self, node: CacheNode, tier: StorageHooks) -> tuple[str, ...]:
        """Return the storage keys of a node's pages, each chained to the page before it."""
        prior = None
        for part in node.path():
            if not part.page_keys:
                keys = tier.page_keys(
                    token_ids(part.key), prior=prior, namespace=self._tree.namespace_of(part)
                )
                part.page_keys = tuple(keys)
            prior = part.page_keys[-1]
        return node.page_keys

    def _keys_behind(self, anchor: CacheNode, key: bytes, tier: StorageHooks) -> tuple[str, ...]:
        """Return the storage keys of pages behind a node."""
        before = self._keys_of(anchor, tier)
        namespace = self._tree.namespace_of(anchor)
        prior = before[-1] if before else None
        return tuple(tier.page_keys(token_ids(key), prior=prior, namespace=namespace))

    def _start_prefetch(
        self,
        request_id: str,
        anchor: CacheNode,
        key: bytes,
        host: dict[ComponentType, torch.Tensor],
    ) -> PendingPrefetch | None:
        """Take host slots into ``host`` and start; return None where there is too little room.

        Fewer pages are asked for where the host has no room for all of them.
        """
        tier = self._controller.storage_tier
        assert tier is not None, "the caller has asked for it"
        host[ComponentType.FULL] = self._take_full(len(key) // TOKEN_BYTES)
        token_num = len(host[ComponentType.FULL])
        if not tier.accepts(request_id, token_num):
            return None
        key = key[: token_num * TOKEN_BYTES]
        before = anchor.path()
        depth = sum(len(part) for part in before)
        for component, need in self._trailing.items():
            slots = self._take(component, need(depth + token_num))
            if slots is None:
                return None
            host[component] = slots
        keys = self._keys_behind(anchor, key, tier)
        prefix_keys = tuple(one for part in before for one in part.page_keys)
        is_started = tier.start_prefetch(
            Prefetch(request_id=request_id, keys=keys, prefix_keys=prefix_keys, host=dict(host))
        )
        if not is_started:
            return None
        return PendingPrefetch(anchor=anchor, key=key, keys=keys, host=host)

    def _take_full(self, need: int) -> torch.Tensor:
        """Take anchor slots, as many as there are after an eviction."""
        short = need - self._group.available_size()
        if short > 0:
            self._make_host_room(short, ComponentType.FULL)
        slots = self._group.alloc(min(need, self._group.available_size()))
        assert slots is not None, "free slots can be taken"
        return slots

    def _take(self, component: ComponentType, need: int) -> torch.Tensor | None:
        """Take host slots of a component, after an eviction where that is needed."""
        pool = self._group.get_pool(POOL_OF_COMPONENT[component])
        slots = pool.alloc(need)
        if slots is None:
            self._make_host_room(need - pool.available_size(), component)
            slots = pool.alloc(need)
        return slots

    def _result(self, request_id: str, *, abort: bool) -> PrefetchResult | None:
        """Return what a prefetch brought; one that ended with an error leaves nothing behind."""
        tier = self._tier
        assert tier is not None, "the caller has asked for it"
        try:
            return tier.finish_prefetch(request_id, abort=abort)
        except Exception:
            if not tier.is_fetching(request_id):
                self._drop(request_id)
            raise

    def _insert(self, pending: PendingPrefetch, result: PrefetchResult) -> None:
        """Insert the pages that every pool has, and free all other slots."""
        page_size = self._group.page_size
        # A prefix is of no use without the window or the state at its end.
        is_usable = result.components >= self._trailing.keys()
        token_num = result.page_num * page_size if is_usable else 0
        kept, spare = _split(pending.host, self._trailing_num(pending, token_num), token_num)
        self._give_back(spare)
        if token_num:
            arrival = Arrival(
                anchor=pending.anchor,
                key=pending.key[: token_num * TOKEN_BYTES],
                page_keys=pending.keys[: result.page_num],
                host=kept,
            )
            arrival.insert(self._tree, self._group)

    def _trailing_num(self, pending: PendingPrefetch, token_num: int) -> dict[ComponentType, int]:
        """Return how many slots of each component the end of the prefix that arrived has."""
        depth = sum(len(part) for part in pending.anchor.path()) + token_num
        return {part: need(depth) if token_num else 0 for part, need in self._trailing.items()}

    def _drop(self, request_id: str) -> None:
        """Free the slots of a prefetch that is over, and unlock the node before its pages."""
        pending = self.ongoing_prefetch.pop(request_id)
        self._give_back(pending.host)
        self._tree.unlock_host(pending.anchor)

    def _give_back(self, host: dict[ComponentType, torch.Tensor]) -> None:
        for component, slots in host.items():
            if len(slots):
                self._group.get_pool(POOL_OF_COMPONENT[component]).free(slots)


def _split(
    host: dict[ComponentType, torch.Tensor], trailing: dict[ComponentType, int], token_num: int
) -> tuple[dict[ComponentType, torch.Tensor], dict[ComponentType, torch.Tensor]]:
    """Return the slots that hold what arrived, and the others.

    Full slots are filled from the first one on, those of a window or a state up to the last one.
    """
    full = host[ComponentType.FULL]
    kept = {ComponentType.FULL: full[:token_num]}
    spare = {ComponentType.FULL: full[token_num:]}
    for component, num in trailing.items():
        cut = len(host[component]) - num
        spare[component], kept[component] = host[component][:cut], host[component][cut:]
    return kept, spare
