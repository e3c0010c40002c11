"""The base of the caches: nodes that move between device and host, evicted when space is short."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from assembler.cache.device_slots import ComponentAllocators
from assembler.cache.nodes import (
    POOL_OF_COMPONENT,
    CacheNode,
    LruNodes,
    backup_transfers,
    load_transfers,
    sidecar_transfers,
)
from assembler.cache.validation import validate_components, validate_params, validate_pool_coverage
from assembler.controller.hybrid import HybridCacheController
from assembler.controller.operations import take_finished
from assembler.errors import AssemblyError
from assembler.host_pools.group import HostPoolGroup, SidecarPoolSpec
from assembler.names import ComponentType, WritePolicy
from assembler.owner import EvictParams, EvictResult
from assembler.params import CacheInitParams
from assembler.validation import validation_enabled


class HierarchicalCache:
    """Base of the caches: a flat list of nodes over one stack.

    There is no prefix matching and no storage tier yet: callers pass nodes, not tokens. Ranks that
    share a cache do not agree on finished copies yet.

    A node lives through ``insert``, ``write_backup``, ``evict``, ``load_back``, ``ready_to_load``
    and ``evict_host``. While it is copied it is locked, until ``writing_check`` or
    ``loading_check`` saw the copy finished.

    Attributes:
        params: parameters of the constructor; its pools, groups and stage are attributes too.
        tree_components: the parts of a node that own slots.
        sidecar_pool_specs: pools that move along on the slots of a component.
        write_through_threshold: uses of a node before it is backed up.
        load_back_threshold: tokens below which nothing is loaded back.
        ongoing_write_through: nodes being backed up, by id.
        ongoing_load_back: nodes being loaded, by id, with the components that were missing.
    """

    def __init__(self, params: CacheInitParams) -> None:
        """Start empty and without a stack; :meth:`adopt` gives it one.

        Raises:
            AssemblyError: the cache is disabled, evicts in an unknown order, or asks for other
                components than the pools in ``params`` have.
        """
        validate_params(params)
        self._device_slots = ComponentAllocators(params)
        possible = self._device_slots.components()
        wanted = possible if params.tree_components is None else params.tree_components
        self.tree_components = validate_components(wanted=wanted, possible=possible)
        self.params = params
        self.page_size = params.page_size
        self.tp_group = params.tp_cache_group
        self.pp_rank = params.pp_rank
        self.pp_size = params.pp_size
        self.token_to_kv_pool_allocator = params.token_to_kv_pool_allocator
        self.req_to_token_pool = params.req_to_token_pool
        self.sidecar_pool_specs: list[SidecarPoolSpec] = []
        self.write_through_threshold = 2
        self.load_back_threshold = 0
        self.ongoing_write_through: dict[int, CacheNode] = {}
        self.ongoing_load_back: dict[int, tuple[CacheNode, list[ComponentType]]] = {}
        self._nodes = LruNodes()
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

    def insert(
        self, device_indices: torch.Tensor, *, components: Mapping[ComponentType, torch.Tensor]
    ) -> CacheNode:
        """Take over device slots as a new node; the cache frees them from now on.

        All are ``(slots,) int64``: whole pages of the full KV, and by component the window or state
        slots of the same tokens; window slots are those of the last tokens.

        Raises:
            AssemblyError: a component is not one of this cache's.
        """
        possible = self.tree_components - {ComponentType.FULL}
        if not possible.issuperset(components):
            rule = "components must be the cache's, beside the full KV"
            expected, got = (
                " or ".join(sorted(possible)) or "none",
                " and ".join(sorted(components)),
            )
            raise AssemblyError("node", rule, expected=expected, got=got)
        return self._nodes.add({ComponentType.FULL: device_indices, **components})

    def record_hit(self, node: CacheNode) -> None:
        """Count a use of ``node``, which backs it up when the write policy says so.

        Source: sglang 0.5.12 ``hiradix_cache.py:736-745``; there an insertion is the first use.
        """
        self._nodes.touch(node)
        node.hit_count += 1
        is_write_back = self.cache_controller.write_policy is WritePolicy.WRITE_BACK
        if not is_write_back and node.hit_count >= self.write_through_threshold:
            self.write_backup(node)

    def inc_lock_ref(self, node: CacheNode) -> None:
        """Keep the slots of ``node`` until :meth:`dec_lock_ref`."""
        node.lock_ref += 1

    def dec_lock_ref(self, node: CacheNode) -> None:
        """Undo one :meth:`inc_lock_ref`; raise AssemblyError for a node that is not locked."""
        if node.lock_ref == 0:
            rule = "only a locked node is unlocked"
            raise AssemblyError(f"node {node.id}", rule, expected="a lock", got="none")
        node.lock_ref -= 1

    def write_backup(self, node: CacheNode) -> bool:
        """Start copying a node to the host; evicts there once when space is short.

        Returns:
            Whether the node is, or is about to be, on the host.

        Order: the node stays locked until :meth:`writing_check` saw its copy finished.
        """
        self._nodes.touch(node)
        if node.is_backed_up:
            return True
        # Locked before slots are taken: the eviction below must not choose this very node.
        self.inc_lock_ref(node)
        try:
            host = self._write(node)
            if host is None:
                self.evict_host(len(node.device[ComponentType.FULL]), ComponentType.FULL)
                host = self._write(node)
        except Exception:
            self.dec_lock_ref(node)
            raise
        if host is None:
            self.dec_lock_ref(node)
            return False
        # The node counts as backed up from now on, while its copy is still in flight. That is safe
        # because a locked node is not evicted, and only the finished copy unlocks it.
        node.host = host
        self.ongoing_write_through[node.id] = node
        return True

    def load_back(self, node: CacheNode) -> torch.Tensor | None:
        """Queue the components that the device lacks; evicts there once when space is short.

        Returns:
            ``(slots,) int64`` device slots of the full KV, to be read after :meth:`ready_to_load`;
            None when there is no space, or when only full KV is missing and it is shorter than
            ``load_back_threshold``.

        Order: the node stays locked until :meth:`loading_check` saw its copy finished.
        """
        self._nodes.touch(node)
        missing = node.missing_on_device()
        if not missing:
            return node.device[ComponentType.FULL]
        token_num = len(node.host[ComponentType.FULL])
        if missing == [ComponentType.FULL] and token_num < self.load_back_threshold:
            return None
        self.inc_lock_ref(node)
        try:
            loaded = self._load(node, missing)
            if loaded is None and ComponentType.FULL in missing:
                self.evict(EvictParams(num_tokens=token_num))
                loaded = self._load(node, missing)
        except Exception:
            self.dec_lock_ref(node)
            raise
        if loaded is None:
            self.dec_lock_ref(node)
            return None
        # The slots are the node's at once, but hold nothing before ready_to_load launched the copy:
        # readers must wait on the layer counter, and the lock keeps eviction away from both sides.
        node.device.update(loaded)
        self.ongoing_load_back[node.id] = (node, missing)
        self._device_slots.map_window(node, is_mapped=True)
        return node.device[ComponentType.FULL]

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

        Order: only after this may the device slots of a backed-up node go.
        """
        acks = self.cache_controller.ack_write_queue
        for node_id in take_finished(acks, block=write_back):
            # Callers may use the controller beside the cache, with node ids of their own.
            if node_id in self.ongoing_write_through:
                self.dec_lock_ref(self.ongoing_write_through.pop(node_id))

    def loading_check(self) -> None:
        """Unlock the nodes whose load finished, in launch order."""
        for node_id in take_finished(self.cache_controller.ack_load_queue, block=False):
            if node_id in self.ongoing_load_back:
                self.dec_lock_ref(self.ongoing_load_back.pop(node_id)[0])

    def evict(self, params: EvictParams) -> EvictResult:
        """Free device slots of unlocked nodes, oldest use first, until there are enough.

        Backed-up nodes go first, and stay on the host. A node that is not backed up is backed up
        now with the policy ``write_back``, and lost with any other. Full KV takes the other
        components of its node along; a window or a state goes alone when the host has it. A backup
        that makes room on the host may free device slots too; they count.
        """
        before = self._device_slots.available()
        for component, wanted in params.wanted().items():
            while self._freed_since(before)[component] < wanted:
                victim = self._device_victim(component)
                if victim is None:
                    break
                self._drop_from_device(victim, component)
        freed = self._freed_since(before)
        return EvictResult(
            num_tokens_evicted=freed[ComponentType.FULL],
            swa_num_tokens_evicted=freed[ComponentType.SWA],
            mamba_num_evicted=freed[ComponentType.MAMBA],
        )

    def evict_host(self, num: int, component: ComponentType) -> int:
        """Drop whole host copies of unlocked nodes, oldest use first.

        A node that the device does not hold completely is lost with its host copy.

        Returns:
            How many slots of ``component`` were freed; ``num`` or more unless nothing is left.
        """
        freed = 0
        for node in self._nodes:
            if freed >= num:
                break
            if node.lock_ref == 0 and component in node.host:
                freed += len(node.host[component])
                self._drop_from_host(node)
        return freed

    def reset(self) -> None:
        """Wait for copies in flight, free every slot on both sides and remove every node.

        Call it before clearing the device allocators.
        """
        # First: the controller waits for both streams, which still read or write these slots.
        self.cache_controller.reset()
        self.ongoing_write_through.clear()
        self.ongoing_load_back.clear()
        for node in self._nodes:
            self._free_device(node, list(node.device))
        self._nodes.clear()
        self.host_pool_group.clear()

    def _adopted(self) -> tuple[HostPoolGroup, HybridCacheController]:
        if self._stack is None:
            rule = "must be attached first"
            raise AssemblyError(type(self).__name__, rule, expected="a stack", got="none")
        return self._stack

    def _write(self, node: CacheNode) -> dict[ComponentType, torch.Tensor] | None:
        """Back up all components of a node; return its host slots, or None without space."""
        parts = backup_transfers(node)
        host_indices = self.cache_controller.write(
            node.device[ComponentType.FULL],
            node_id=node.id,
            extra_pools=[*parts.values(), *sidecar_transfers(self.sidecar_pool_specs, node.device)],
        )
        if host_indices is None:
            return None
        sides = {component: part.resolved()[0] for component, part in parts.items()}
        return {ComponentType.FULL: host_indices, **sides}

    def _load(
        self, node: CacheNode, missing: Sequence[ComponentType]
    ) -> dict[ComponentType, torch.Tensor] | None:
        """Queue the missing components of a node; return their device slots, or None."""
        parts = load_transfers(node, missing)
        has_full = ComponentType.FULL in missing
        host_indices = node.host[ComponentType.FULL]
        device_indices = self.cache_controller.load(
            host_indices if has_full else host_indices[:0],
            node_id=node.id,
            extra_pools=[*parts.values(), *sidecar_transfers(self.sidecar_pool_specs, missing)],
        )
        if device_indices is None:
            return None
        sides = {component: part.resolved()[1] for component, part in parts.items()}
        return {ComponentType.FULL: device_indices, **sides} if has_full else sides

    def _device_victim(self, component: ComponentType) -> CacheNode | None:
        """Return the next node to lose ``component`` on the device."""
        free = [node for node in self._nodes if node.lock_ref == 0 and component in node.device]
        if self.cache_controller.write_policy is not WritePolicy.WRITE_BACK:
            # The sort is stable: backed-up nodes first, each kind still in order of last use.
            free.sort(key=lambda node: not node.is_backed_up)
        return free[0] if free else None

    def _freed_since(self, before: Counter[ComponentType]) -> Counter[ComponentType]:
        return self._device_slots.available() - before

    def _drop_from_device(self, node: CacheNode, component: ComponentType) -> None:
        """Free a node's component, or all of it."""
        if self.cache_controller.write_policy is WritePolicy.WRITE_BACK:
            self.write_backup(node)
            # Blocks: the slots are freed below, so their copy must be over. Acknowledgements are a
            # queue, so this waits for every backup in flight.
            self.writing_check(write_back=True)
        goes_alone = node.is_backed_up and component is not ComponentType.FULL
        self._free_device(node, [component] if goes_alone else list(node.device))
        if not node.is_backed_up:
            self._nodes.remove(node)

    def _drop_from_host(self, node: CacheNode) -> None:
        """Free a node's host slots; remove the node unless the device has all of it."""
        # Before the host part goes: afterwards the node no longer knows what the device lacks.
        is_whole = not node.missing_on_device()
        for component, indices in node.host.items():
            self.host_pool_group.get_pool(POOL_OF_COMPONENT[component]).free(indices)
        node.host = {}
        if not is_whole:
            self._free_device(node, list(node.device))
            self._nodes.remove(node)

    def _free_device(self, node: CacheNode, components: Sequence[ComponentType]) -> None:
        self._device_slots.free(node, components, controller=self.cache_controller)

    def _undo_unlaunched_loads(self) -> None:
        """Take back the nodes of a failed load; the controller gave their slots back."""
        acks = self.cache_controller.ack_load_queue
        launched = {node_id for ack in acks for node_id in ack.node_ids}
        for node_id in set(self.ongoing_load_back) - launched:
            node, missing = self.ongoing_load_back.pop(node_id)
            if ComponentType.SWA in missing:
                # Its window slots were freed with the load; a stale map would free them again
                # together with the full slots.
                self._device_slots.map_window(node, is_mapped=False)
            for component in missing:
                del node.device[component]
            self.dec_lock_ref(node)
