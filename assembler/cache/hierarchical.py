"""The base of the caches: a radix tree whose nodes move between device and host."""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack

import torch
from typing_extensions import override

from assembler.cache.moves import NodeMoves
from assembler.cache.nodes import CacheNode
from assembler.cache.prefix_cache import PrefixCache
from assembler.cache.prefixes import (
    IncLockRefResult,
)
from assembler.cache.room import NodeRoom
from assembler.cache.transfers import LoadingNodes, WritingNodes
from assembler.cache.validation import (
    validate_pool_coverage,
    validate_state,
)
from assembler.controller.acknowledgements import take_loaded, take_written
from assembler.controller.hybrid import HybridCacheController
from assembler.errors import AssemblyError
from assembler.host_pools.group import HostPoolGroup, SidecarPoolSpec
from assembler.names import ComponentType, WritePolicy
from assembler.owner import EvictParams, EvictResult
from assembler.params import CacheInitParams
from assembler.validation import validation_enabled


class HierarchicalCache(PrefixCache):
    """Base of the caches: a radix tree of tokens over one stack.

    Every cached token has its full KV on the device, on the host, or on both; windows and states
    may be missing, and then a match ends earlier. A copy counts as finished when every rank that
    shares the cache has finished it.

    While a node is copied it is locked with all nodes before it, until ``writing_check`` or
    ``loading_check`` saw the copy finished.

    Attributes:
        tp_group, pp_group, pp_rank, pp_size: those of the parameters.
        sidecar_pool_specs: pools that move along on the slots of a component.
        write_through_threshold: insertions of a node before it is backed up.
        load_back_threshold: tokens below which nothing is loaded back.
        ongoing_write_through, ongoing_load_back: nodes being backed up or loaded, with their
            locks, by the id of the last of them.
    """

    def __init__(self, params: CacheInitParams) -> None:
        """Start empty and without a stack; :meth:`adopt` gives it one.

        Raises:
            AssemblyError: see :class:`~assembler.cache.prefix_cache.PrefixCache`.
        """
        super().__init__(params)
        self.tp_group = params.tp_cache_group
        self.pp_group = params.pp_cache_group
        self.pp_rank = params.pp_rank
        self.pp_size = params.pp_size
        self.sidecar_pool_specs: list[SidecarPoolSpec] = []
        self.write_through_threshold = 2
        self.load_back_threshold = 0
        self.ongoing_write_through: dict[int, tuple[WritingNodes, IncLockRefResult]] = {}
        self.ongoing_load_back: dict[int, tuple[CacheNode, LoadingNodes, IncLockRefResult]] = {}
        self._stack: tuple[HostPoolGroup, HybridCacheController] | None = None

    @property
    def host_pool_group(self) -> HostPoolGroup:
        """The host pools; raises AssemblyError before :meth:`adopt`."""
        return self._adopted()[0]

    @property
    def cache_controller(self) -> HybridCacheController:
        """The controller that copies; raises AssemblyError before :meth:`adopt`."""
        return self._adopted()[1]

    def register_sidecar_pool(self, spec: SidecarPoolSpec) -> None:
        """Move a pool along with every operation, on another pool's slots."""
        self.sidecar_pool_specs.append(spec)

    def adopt(
        self, host_pool_group: HostPoolGroup, cache_controller: HybridCacheController
    ) -> None:
        """Use a stack from now on; readers of recurrent states wait for its loads.

        Register sidecars first: a pool that nothing would move is refused.

        Raises:
            AssemblyError: the group lacks a component's pool, or has a pool that is neither a
                component's nor a registered sidecar.
        """
        if validation_enabled():
            components, specs = self.tree_components, self.sidecar_pool_specs
            validate_pool_coverage(group=host_pool_group, components=components, specs=specs)
        self._stack = (host_pool_group, cache_controller)
        is_write_through = cache_controller.write_policy is WritePolicy.WRITE_THROUGH
        self.write_through_threshold = 1 if is_write_through else 2
        if self.req_to_token_pool is not None:
            counter = cache_controller.layer_done_counter
            self.req_to_token_pool.register_layer_transfer_counter(counter)

    def write_backup(self, node: CacheNode) -> bool:
        """Start copying what the host lacks of a node; evicts there once when space is short.

        Returns:
            Whether the full KV of the node is, or is about to be, on the host. Without the policy
            ``write_back`` a node is backed up after its parent only.

        Order: the node stays locked until :meth:`writing_check` saw its copy finished.
        """
        self._tree.touch(node)
        parent = node.parent
        is_first = parent is None or parent.parent is None or parent.is_backed_up
        policy = self.cache_controller.write_policy
        if not (is_first or policy is WritePolicy.WRITE_BACK):
            return False
        if node.id in self.ongoing_write_through or not node.missing_on_host():
            return node.is_backed_up
        # Locked before slots are taken: the eviction below must not choose this very node.
        lock = self._lock_copied(node, token_num=len(node))
        with ExitStack() as undo:
            undo.callback(self.dec_lock_ref, node, lock.to_dec_params())
            if not self._moves().write(node):
                return node.is_backed_up
            undo.pop_all()
        # The node counts as backed up from now on, while its copy is in flight: the lock keeps it.
        self.ongoing_write_through[node.id] = (WritingNodes(nodes=[node]), lock)
        return True

    def load_back(
        self,
        node: CacheNode,
        mem_quota: int | None = None,
        state_slot: torch.Tensor | None = None,
    ) -> torch.Tensor | None:
        """Queue what the device lacks of a prefix; evicts there once when space is short.

        Args:
            node: the end of the prefix.
            mem_quota: most tokens that the load may take and that its lock may keep from eviction;
                None for any number.
            state_slot: ``(1,) int64`` slot of a request; a load that brings the prefix's state back
                copies it there, too. It stays the caller's.

        Returns:
            ``(slots,) int64`` device slots of the full KV of the whole prefix, to be read after
            :meth:`ready_to_load`; None when there is no space, when the quota is too small, or when
            only full KV is missing and it is shorter than ``load_back_threshold``.

        Raises:
            AssemblyError: there is a ``state_slot`` and the model has no states.

        Order: the prefix stays locked until :meth:`loading_check` saw the copy finished.

        Source: sglang 0.5.13 ``unified_radix_cache.py``, ``mamba_component.py``.
        """
        validate_state(state_slot, self.tree_components, of="load")
        self._tree.touch(node)
        loading = self._needs.missing(node)
        if not loading.missing:
            return self.path_device_indices(node)
        token_num = loading.token_num()
        if list(loading.missing) == [ComponentType.FULL] and token_num < self.load_back_threshold:
            return None
        protected = self.protected_size()
        lock = self._lock_copied(node, token_num=loading.window_reach(node))
        with ExitStack() as undo:
            undo.callback(self.dec_lock_ref, node, lock.to_dec_params())
            taken = token_num + self.protected_size() - protected
            is_allowed = mem_quota is None or taken <= mem_quota
            if not (is_allowed and self._moves().load(node, loading, state_slot)):
                return None
            undo.pop_all()
        # The slots are the nodes' at once, but hold nothing yet: readers wait on the layer counter.
        self.ongoing_load_back[node.id] = (node, loading, lock)
        return self.path_device_indices(node)

    def ready_to_load(self) -> int:
        """Launch the queued loads; return their place in the ring for readers, or -1 for none.

        When a copy fails, the nodes are where they were before and the error is raised again.

        Source: sglang 0.5.12 ``ready_to_load_host_cache``.
        """
        try:
            return self.cache_controller.start_loading()
        except Exception:
            if not self.cache_controller.load_queue:
                self._undo_unlaunched_loads()
            raise

    def writing_check(self, *, write_back: bool = False) -> None:
        """Unlock the nodes whose backup finished, in launch order; wait for all if ``write_back``.

        Only after this may the device slots of a backed-up node go.
        """
        for node_id in take_written(self.cache_controller, block=write_back):
            # Callers may use the controller beside the cache, with node ids of their own.
            if node_id in self.ongoing_write_through:
                writing, lock = self.ongoing_write_through.pop(node_id)
                for node in writing.nodes:
                    self._note_written(node)
                self.dec_lock_ref(writing.nodes[-1], lock.to_dec_params())

    def loading_check(self) -> None:
        """Unlock the nodes whose load finished, in launch order."""
        for node_id in take_loaded(self.cache_controller):
            if node_id in self.ongoing_load_back:
                node, _, lock = self.ongoing_load_back.pop(node_id)
                self.dec_lock_ref(node, lock.to_dec_params())

    def evict(self, params: EvictParams) -> EvictResult:
        """Free device slots of unlocked nodes, oldest use first, until there are enough.

        Full KV leaves from the ends of prefixes. Backed-up nodes go first, and stay on the host. A
        node that is not backed up is backed up now with the policy ``write_back``, and lost with
        any other. Full KV takes the other components of its node along; a window or a state goes
        alone when the host has the node or the device has a child of it. A backup that makes room
        on the host may free device slots too; they count.
        """
        return self._room().make_device_room(params)

    def evict_host(self, num: int, component: ComponentType) -> int:
        """Drop host copies of unlocked nodes, oldest use first, from the ends of prefixes.

        A node that the device does not hold is lost with its host copy. A window or a state in the
        middle of a prefix goes alone.

        Returns:
            How many slots of ``component`` were freed; ``num`` or more unless nothing is left.
        """
        return self._room().make_host_room(num, component)

    def reset(self) -> None:
        """Wait for copies in flight, free every slot on both sides and remove every node.

        Call it before clearing the device allocators. It is done where it raises an error, too.
        """
        try:
            # First: the controller waits for both streams, which still read or write these slots.
            self.cache_controller.reset()
        finally:
            self.ongoing_write_through.clear()
            self.ongoing_load_back.clear()
            self._room().free_all_device_slots()
            self._tree.clear()
            self.host_pool_group.clear()

    def _adopted(self) -> tuple[HostPoolGroup, HybridCacheController]:
        if self._stack is None:
            rule = "must be attached first"
            raise AssemblyError(type(self).__name__, rule, expected="a stack", got="none")
        return self._stack

    def _moves(self) -> NodeMoves:
        return NodeMoves(
            tree=self._tree,
            controller=self.cache_controller,
            allocators=self._device_slots,
            specs=self.sidecar_pool_specs,
            make_room=lambda num: self.evict_host(num, ComponentType.FULL),
            make_device_room=lambda num: self.evict(EvictParams(num_tokens=num)),
        )

    def _room(self) -> NodeRoom:
        group, controller = self._adopted()
        return NodeRoom(
            tree=self._tree,
            allocators=self._device_slots,
            group=group,
            controller=controller,
            save=self._save,
        )

    def _save(self, node: CacheNode) -> None:
        """Back a node up and wait for it, and for every backup before it."""
        self.write_backup(node)
        self.writing_check(write_back=True)

    @override
    def _count_hits(self, nodes: Sequence[CacheNode]) -> None:
        """Count a use of each node, which backs it up when the write policy says so."""
        for node in nodes:
            node.hit_count += 1
        if self._stack is None or self.cache_controller.write_policy is WritePolicy.WRITE_BACK:
            return
        for node in nodes:
            if node.hit_count >= self.write_through_threshold and node.missing_on_host():
                self.write_backup(node)

    @override
    def _note_split(self, upper: CacheNode, lower: CacheNode) -> None:
        """Let copies know both halves of a node."""
        for writing, _ in self.ongoing_write_through.values():
            writing.note_split(upper, lower)
        for _, loading, _ in self.ongoing_load_back.values():
            loading.note_split(upper, lower)

    @abstractmethod
    def _note_written(self, node: CacheNode) -> None:
        """Take note that the host copy of a node is finished; it is still locked."""

    def _undo_unlaunched_loads(self) -> None:
        """Take back the nodes of a failed load; the controller gave their slots back."""
        acks = self.cache_controller.ack_load_queue
        launched = {node_id for ack in acks for node_id in ack.node_ids}
        for node_id in sorted(set(self.ongoing_load_back) - launched):
            node, loading, lock = self.ongoing_load_back.pop(node_id)
            self._moves().undo_load(loading)
            self.dec_lock_ref(node, lock.to_dec_params())
