"""Room for others: eviction of nodes on the device and on the host."""

from collections import Counter
from collections.abc import Callable

from assembler.cache.device_slots import ComponentAllocators
from assembler.cache.eviction import VictimQueue
from assembler.cache.nodes import CacheNode
from assembler.cache.transfers import POOL_OF_COMPONENT
from assembler.cache.tree import RadixTree, subtree
from assembler.controller.hybrid import HybridCacheController
from assembler.host_pools.group import HostPoolGroup
from assembler.names import ComponentType, WritePolicy
from assembler.owner import EvictParams, EvictResult


class NodeRoom:
    """Eviction of the nodes of a tree; ``save`` backs a node up and waits for it."""

    def __init__(
        self,
        *,
        tree: RadixTree,
        allocators: ComponentAllocators,
        group: HostPoolGroup,
        controller: HybridCacheController,
        save: Callable[[CacheNode], None],
    ) -> None:
        self._tree = tree
        self._allocators = allocators
        self._group = group
        self._controller = controller
        self._save = save
        self._is_write_back = controller.write_policy is WritePolicy.WRITE_BACK

    def make_device_room(self, params: EvictParams) -> EvictResult:
        """Free device slots, see :meth:`HierarchicalCache.evict`."""
        before = self._allocators.available()
        for component, wanted in params.wanted().items():
            if wanted <= 0:
                continue
            queue = VictimQueue(self._tree.device, component, saved_first=not self._is_write_back)
            while self._freed_since(before)[component] < wanted:
                victim = queue.pop()
                if victim is None:
                    break
                parent = victim.parent
                self._drop_from_device(victim, component)
                queue.offer(parent)
        freed = self._freed_since(before)
        return EvictResult(
            num_tokens_evicted=freed[ComponentType.FULL],
            swa_num_tokens_evicted=freed[ComponentType.SWA],
            mamba_num_evicted=freed[ComponentType.MAMBA],
        )

    def make_host_room(self, num: int, component: ComponentType) -> int:
        """Free host slots, see :meth:`HierarchicalCache.evict_host`."""
        if num <= 0:
            return 0
        pool = self._group.get_pool(POOL_OF_COMPONENT[component])
        before = pool.available_size()
        queue = VictimQueue(self._tree.host, component, saved_first=False)
        while pool.available_size() - before < num:
            victim = queue.pop()
            if victim is None:
                break
            parent = victim.parent
            self._drop_from_host(victim, component)
            queue.offer(parent)
        return pool.available_size() - before

    def free_all_device_slots(self) -> None:
        """Free every device slot of every node; copies are over."""
        for node in self._tree:
            self._free_device(node, list(node.device))

    def _freed_since(self, before: Counter[ComponentType]) -> Counter[ComponentType]:
        return self._allocators.available() - before

    def _drop_from_device(self, node: CacheNode, component: ComponentType) -> None:
        """Free a node's component, or all of it; a node that storage works below is not lost."""
        if self._is_write_back:
            self._save(node)
        is_end = node in self._tree.device.leaves and not node.lock_ref
        if component is not ComponentType.FULL and (node.is_backed_up or not is_end):
            self._free_device(node, [component])
        elif node.is_backed_up:
            self._free_device(node, list(node.device))
        elif not node.host_lock_ref:
            self._lose(node)

    def _drop_from_host(self, node: CacheNode, component: ComponentType) -> None:
        """Free a node's component, or all of it; a node that has no full KV left is lost."""
        is_end = node in self._tree.host.leaves and not node.lock_ref
        self._free_host(node, list(node.host) if is_end else [component])
        if node.is_evicted and not node.is_backed_up:
            self._lose(node)

    def _lose(self, node: CacheNode) -> None:
        """Remove a node, and those below it, which mean nothing without it."""
        for part in reversed(list(subtree(node))):
            self._free_device(part, list(part.device))
            self._free_host(part, list(part.host))
            self._tree.remove(part)

    def _free_device(self, node: CacheNode, components: list[ComponentType]) -> None:
        if components:
            full = node.device[ComponentType.FULL]
            parts = {part: self._tree.device.take(node, part) for part in components}
            self._allocators.free(parts, full=full, controller=self._controller)

    def _free_host(self, node: CacheNode, components: list[ComponentType]) -> None:
        for component in components:
            slots = self._tree.host.take(node, component)
            self._group.get_pool(POOL_OF_COMPONENT[component]).free(slots)
