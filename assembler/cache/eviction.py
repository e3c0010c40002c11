"""Order of eviction: nodes by last use, parents behind their children."""

import heapq

from assembler.cache.nodes import CacheNode
from assembler.cache.tiers import Tier
from assembler.names import ComponentType


class VictimQueue:
    """The nodes of a tier that may lose a component, least recently used first.

    With ``saved_first``, nodes that the host has come before all others. A node that is locked, or
    that has lost the component meanwhile, is passed over.
    """

    def __init__(self, tier: Tier, component: ComponentType, *, saved_first: bool) -> None:
        self._tier = tier
        self._component = component
        self._saved_first = saved_first
        self._heap = [self._ranked(node) for node in tier.holders_of(component)]
        heapq.heapify(self._heap)

    def pop(self) -> CacheNode | None:
        """Return the next node that may lose the component; None when there is none left."""
        while self._heap:
            node = heapq.heappop(self._heap)[-1]
            if self._may_leave(node):
                return node
        return None

    def offer(self, node: CacheNode | None) -> None:
        """Take a node in whose last child just left."""
        if node is not None and self._may_leave(node):
            heapq.heappush(self._heap, self._ranked(node))

    def _may_leave(self, node: CacheNode) -> bool:
        if self._component not in self._tier.parts(node):
            return False
        if self._tier.locks_of(node, self._component):
            return False
        return self._component is not ComponentType.FULL or node in self._tier.leaves

    def _ranked(self, node: CacheNode) -> tuple[bool, int, int, CacheNode]:
        # The id is unique, so that nodes themselves are never compared.
        is_last = self._saved_first and not node.is_backed_up
        return (is_last, node.last_use, node.id, node)
