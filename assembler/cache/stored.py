"""The caches with a storage tier: what the host has is stored, and fetched for later requests."""

from collections.abc import Callable, Sequence

from typing_extensions import override

from assembler.cache.hierarchical import HierarchicalCache
from assembler.cache.nodes import CacheNode
from assembler.cache.storage_moves import PendingPrefetch, StorageMoves, StoringNode
from assembler.controller.hybrid import HybridCacheController
from assembler.host_pools.group import HostPoolGroup
from assembler.names import ComponentType


class StoredCache(HierarchicalCache):
    """A hierarchical cache whose controller may have a storage tier.

    A node is stored as soon as its host copy is finished. A request whose tokens are only in
    storage asks for them behind the last node that the host has; what arrives is a node on the
    host, which ``load_back`` brings to the device.

    Every rank calls every method, in the same order.
    """

    _storage_moves: StorageMoves | None = None

    @property
    def ongoing_backup(self) -> dict[int, StoringNode]:
        """The nodes that are being stored, by id."""
        return self._storage.ongoing_backup

    @property
    def ongoing_prefetch(self) -> dict[str, PendingPrefetch]:
        """The prefetches that are under way, by request."""
        return self._storage.ongoing_prefetch

    @override
    def adopt(
        self, host_pool_group: HostPoolGroup, cache_controller: HybridCacheController
    ) -> None:
        super().adopt(host_pool_group, cache_controller)
        self._storage_moves = StorageMoves(
            tree=self._tree,
            group=host_pool_group,
            controller=cache_controller,
            trailing=self._trailing_slots(),
            make_host_room=self.evict_host,
        )

    def check_hicache_events(self) -> None:
        """Unlock the nodes of every copy that finished, and store what reached the host.

        A scheduler calls it once in every pass.
        """
        self.writing_check()
        self.loading_check()
        self._storage.finish_backups()

    def write_backup_storage(self, node: CacheNode) -> None:
        """Start storing the pages of a node whose host copy is finished; nothing without a tier.

        Order: its host slots stay until :meth:`check_hicache_events` saw the backup finished.
        """
        self._storage.back_up(node)

    def query_storage_hit_length(
        self, last_host_node: CacheNode, new_input_tokens: Sequence[int]
    ) -> int:
        """Return how many tokens behind a node the full KV of which storage has, in whole pages."""
        return self._storage.hit_length(last_host_node, new_input_tokens)

    def prefetch_from_storage(
        self, req_id: str, last_host_node: CacheNode, new_input_tokens: Sequence[int]
    ) -> bool:
        """Start fetching the tokens behind a node that the host has, or behind a root.

        Returns:
            Whether a prefetch was started. None is without a tier, for fewer tokens than its
            threshold, beyond its rate limit, behind a node that only the device has, and where the
            host has no room for as many tokens as the threshold.

        Raises:
            AssemblyError: the node has left the cache.
            StorageError: a prefetch of that request is under way.

        Order: the nodes before the tokens stay on the host until the prefetch is over.
        """
        return self._storage.prefetch(req_id, last_host_node, new_input_tokens)

    def check_prefetch_progress(self, req_id: str) -> bool:
        """Return whether a request may be scheduled: True when no prefetch is under way for it.

        The tier's policy says whether a prefetch that is not complete goes on. What arrived in
        every pool and on every rank is on the host then.

        Raises:
            CollectiveError: the ranks could not agree.
            Exception: the error that ended the prefetch.
        """
        return self._storage.finish_prefetch(req_id)

    def release_aborted_request(self, req_id: str) -> bool:
        """End the prefetch of a request that was aborted, and drop its pages.

        Returns:
            False while another rank goes on with it; ask again then.
        """
        return self._storage.abort_prefetch(req_id)

    def detach_storage_backend(self) -> None:
        """End every storage operation, and go on without a storage tier.

        Where a thread of the tier had died, its error is raised, and all of this is done.
        """
        try:
            self.cache_controller.detach_storage_backend()
        finally:
            self._storage.release()

    @override
    def reset(self) -> None:
        try:
            super().reset()
        finally:
            self._storage.forget()

    @override
    def _note_written(self, node: CacheNode) -> None:
        self._storage.back_up(node)

    @property
    def _storage(self) -> StorageMoves:
        """The storage operations; raises AssemblyError before :meth:`adopt`."""
        self._adopted()
        assert self._storage_moves is not None, "there is a stack"
        return self._storage_moves

    def _trailing_slots(self) -> dict[ComponentType, Callable[[int], int]]:
        """Return how many slots of a window or a state the end of a prefix needs."""
        needs: dict[ComponentType, Callable[[int], int]] = {
            ComponentType.SWA: self._window_slots,
            ComponentType.MAMBA: lambda _: 1,
        }
        return {part: need for part, need in needs.items() if part in self.tree_components}

    def _window_slots(self, token_num: int) -> int:
        window = self.params.sliding_window_size
        seen = token_num if window is None else min(window, token_num)
        return -(-seen // self.page_size) * self.page_size
