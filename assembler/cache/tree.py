"""The radix tree of a cache: matching, adding, splitting, locking and removing nodes."""

from collections.abc import Callable, Iterator

from assembler.cache.keys import RadixKey, shared_bytes
from assembler.cache.nodes import CacheNode
from assembler.cache.tiers import Tier
from assembler.errors import AssemblyError


class RadixTree:
    """Nodes by their tokens, in whole pages; a root for each namespace.

    Every node has its full KV on the device, on the host, or on both.

    Attributes:
        page_bytes: bytes of a page in a key.
        device: the nodes that have slots on the device.
        host: the nodes that have slots on the host.
    """

    def __init__(
        self, *, page_bytes: int, note_split: Callable[[CacheNode, CacheNode], None]
    ) -> None:
        """Start empty; ``note_split`` is told each node that was split, its new parent first."""
        self.page_bytes = page_bytes
        self._note_split = note_split
        self.device = Tier("device")
        self.host = Tier("host")
        self._next_id = 0
        self._clock = 0
        self._roots: dict[str | None, CacheNode] = {}

    def __iter__(self) -> Iterator[CacheNode]:
        """Iterate over every node that has tokens, parents first."""
        for root in self._roots.values():
            for child in root.children.values():
                yield from subtree(child)

    def root(self, namespace: str | None) -> CacheNode:
        """Return the root of a namespace, which is made when it is asked for."""
        root = self._roots.get(namespace)
        if root is None:
            root = self._roots[namespace] = self._new_node(b"", None)
        return root

    def walk(self, key: RadixKey) -> list[CacheNode]:
        """Return the nodes that hold the longest prefix of ``key``, and use them.

        A node that holds more than the prefix is split first.
        """
        data, page_bytes = key.data, self.page_bytes
        self._clock += 1
        node = self._roots.get(key.extra_key)
        path: list[CacheNode] = []
        start = 0
        while node is not None:
            child = node.children.get(data[start : start + page_bytes])
            if child is None:
                break
            child.last_use = self._clock
            if data.startswith(child.key, start):
                start += len(child.key)
                node = child
            else:
                shared = shared_bytes(child.key, data, start=start, page_bytes=page_bytes)
                child = self._split(child, shared)
                node = None
            path.append(child)
        return path

    def add(self, parent: CacheNode, key: bytes) -> CacheNode:
        """Return a new node behind ``parent``; the caller gives it full KV on one side."""
        node = self._new_node(key, parent)
        _adopt(parent, key[: self.page_bytes], node)
        return node

    def remove(self, node: CacheNode) -> None:
        """Remove a node that has neither children nor slots."""
        parent = node.parent
        assert parent is not None, "a root stays"
        assert not node.children, "what follows needs it"
        assert not node.device, "its device slots have no other owner"
        assert not node.host, "its host slots have no other owner"
        del parent.children[node.key[: self.page_bytes]]
        node.parent = None

    def touch(self, node: CacheNode) -> None:
        """Make ``node`` the last used one; raise AssemblyError unless it is in the tree."""
        self.require(node)
        self._clock += 1
        node.last_use = self._clock

    def require(self, node: CacheNode) -> None:
        """Raise AssemblyError unless ``node`` is in this tree, a root included."""
        top = node
        while top.parent is not None:
            top = top.parent
        if not any(root is top for root in self._roots.values()):
            rule, expected = "must be cached", "a node of this cache"
            raise AssemblyError(f"node {node.id}", rule, expected=expected, got="none")

    def lock(self, node: CacheNode, *, window_tokens: int) -> int:
        """Lock a node with all before it, the last windows among them, and its own state.

        Returns:
            How many last tokens belong to nodes whose windows were locked: ``window_tokens``, or
            more up to the next node. :meth:`unlock` takes this number.
        """
        node.state_lock_ref += 1
        covered = locked = 0
        for part in reversed(node.path()):
            if not part.lock_ref:
                self.device.note_lock(part, is_locked=True)
                self.host.note_lock(part, is_locked=True)
            part.lock_ref += 1
            if covered < window_tokens:
                part.window_lock_ref += 1
                locked += len(part)
            covered += len(part)
        return locked

    def unlock(self, node: CacheNode, *, window_tokens: int) -> None:
        """Undo one :meth:`lock`, which returned ``window_tokens``.

        Nodes may have been split since: then both halves were locked.

        Raises:
            AssemblyError: the node has no lock.
        """
        if not node.state_lock_ref:
            rule = "only a locked node is unlocked"
            raise AssemblyError(f"node {node.id}", rule, expected="a lock", got="none")
        node.state_lock_ref -= 1
        covered = 0
        for part in reversed(node.path()):
            part.lock_ref -= 1
            if covered < window_tokens:
                part.window_lock_ref -= 1
            covered += len(part)
            if not part.lock_ref:
                self.device.note_lock(part, is_locked=False)
                self.host.note_lock(part, is_locked=False)

    def lock_host(self, node: CacheNode) -> None:
        """Keep the host slots of a node and of all before it; their device slots may go."""
        for part in node.path():
            part.host_lock_ref += 1

    def unlock_host(self, node: CacheNode) -> None:
        """Undo one :meth:`lock_host`. Nodes may have been split since: both halves were locked."""
        for part in node.path():
            part.host_lock_ref -= 1

    def namespace_of(self, node: CacheNode) -> str | None:
        """Return the namespace of a node of this tree."""
        top = node
        while top.parent is not None:
            top = top.parent
        return next(name for name, root in self._roots.items() if root is top)

    def clear(self) -> None:
        """Remove every node; ids are not used again."""
        for node in tuple(self):
            node.parent = None
        self._roots.clear()
        self.device.clear()
        self.host.clear()

    def _new_node(self, key: bytes, parent: CacheNode | None) -> CacheNode:
        node = CacheNode(id=self._next_id, key=key, parent=parent)
        node.last_use = self._clock
        self._next_id += 1
        return node

    def _split(self, lower: CacheNode, size: int) -> CacheNode:
        """Move the first ``size`` bytes of a node into a new parent of it, and return that.

        The node itself stays the one that acknowledgements and requests know. Locks hold on both
        halves: each of them counts the tokens that it covers, and a state stays where it is.
        """
        parent = lower.parent
        assert parent is not None, "a root has no tokens to share"
        upper = self.add(parent, lower.key[:size])
        lower.key = lower.key[size:]
        lower.parent = upper
        _adopt(upper, lower.key[: self.page_bytes], lower)
        upper.lock_ref, upper.window_lock_ref = lower.lock_ref, lower.window_lock_ref
        upper.host_lock_ref = lower.host_lock_ref
        page_num = size // self.page_bytes
        upper.page_keys = lower.page_keys[:page_num]
        lower.page_keys = lower.page_keys[page_num:]
        upper.hit_count, upper.last_use = lower.hit_count, lower.last_use
        self.device.split(upper, lower)
        self.host.split(upper, lower)
        self._note_split(upper, lower)
        return upper


def _adopt(parent: CacheNode, page: bytes, child: CacheNode) -> None:
    if parent.children:
        parent.children[page] = child
    else:
        parent.children = {page: child}


def subtree(node: CacheNode) -> Iterator[CacheNode]:
    """Yield a node and all below it, parents first."""
    waiting = [node]
    while waiting:
        found = waiting.pop()
        yield found
        waiting.extend(found.children.values())
