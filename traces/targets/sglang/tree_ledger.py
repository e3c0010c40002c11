"""Ledger of a release's tree: who owns the slots of every pool, and what keeps its nodes."""

import inspect
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any

from traces.schema.life import NodeLocks, PoolBalance, StateRecord
from traces.schema.model import PoolSide
from traces.schema.pools import PoolAnswer
from traces.targets.sglang.assembly import AssembledStack, entries_of
from traces.targets.sglang.pool_answers import told_values
from traces.targets.sglang.tree_nodes import FULL, TreeNodeState, tree_nodes

_KV, MAMBA = "KV", "MAMBA"
_OCCUPIED = "prefetch_tokens_occupied"
# Names of a component in the methods that count its slots, beside its own; none is the full one.
_COUNTED_AS = {FULL: ("full_", "")}


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedPool:
    """A pool whose slots have owners."""

    pool: str  # ``KV``
    component: str  # part of a node that owns its slots
    side: PoolSide
    allocator: Any  # object of the release that hands its slots out
    total: int  # slots that were free when it was listed

    def page(self, stack: AssembledStack) -> int:
        """Return how many slots are handed out together, at least."""
        return 1 if self.component == MAMBA else stack.page_size


class TreeLedger:
    """Reads the state of a tree and its pools, which were listed when all slots were free.

    ``held`` has the numbers of slots that the scenario took, by side and pool; ``step`` is the one
    that the records belong to.
    """

    def __init__(self, stack: AssembledStack, *, pools: tuple[CountedPool, ...], step: str) -> None:
        self._stack = stack
        self.step = step
        self.held: Counter[tuple[PoolSide, str]] = Counter()
        self.pools = pools
        self._components = {pool.component for pool in self.pools} - {FULL}

    def read(self, moment: str, *, is_final: bool = False) -> Iterator[StateRecord]:
        """Yield the locks of every node that has any, and the balance of every pool."""
        nodes = tree_nodes(self._stack.cache, components=sorted(self._components))
        yield from self._locks(moment, nodes or [])
        for pool in self.pools:
            counts = self._counts(pool) if pool.side == "device" else (None, None)
            yield PoolBalance(
                step=self.step,
                moment=moment,
                pool=pool.pool,
                side=pool.side,
                total=pool.total,
                free=int(pool.allocator.available_size()),
                cached=None
                if nodes is None
                else sum(node.slots[pool.component, pool.side] for node in nodes),
                held=self.held[pool.side, pool.pool],
                evictable=counts[0],
                protected=counts[1],
                is_final=is_final,
            )

    def read_priorities(self, moment: str) -> PoolAnswer:
        """Return the priorities of the nodes that have one, by their tokens."""
        nodes = tree_nodes(self._stack.cache, components=sorted(self._components)) or []
        values = [[node.name, node.priority] for node in nodes if node.priority]
        method = f"priority {moment}"
        return told_values(step=self.step, holder="tree", method=method, values=values)

    def read_occupied(self, moment: str) -> Iterator[PoolAnswer]:
        """Yield how many tokens the controller counts as being fetched: they limit later ones."""
        number = getattr(self._stack.controller, _OCCUPIED, None)
        if number is not None:
            method = f"{_OCCUPIED}: {moment}"
            yield told_values(step=self.step, holder="controller", method=method, values=[number])

    def read_locks(self, moment: str) -> Iterator[StateRecord]:
        """Yield the locks alone: an operation on its way may have slots of its own."""
        nodes = tree_nodes(self._stack.cache, components=sorted(self._components))
        yield from self._locks(moment, nodes or [])

    def _locks(self, moment: str, nodes: list[TreeNodeState]) -> Iterator[NodeLocks]:
        for node in nodes:
            for component in (FULL, *sorted(self._components)):
                device, host = node.locks[component, "device"], node.locks[component, "host"]
                if device or host:
                    yield NodeLocks(
                        step=self.step,
                        moment=moment,
                        node=node.name,
                        component=component,
                        device=device,
                        host=host,
                    )

    def _counts(self, pool: CountedPool) -> tuple[int | None, int | None]:
        """Return how many device slots the tree itself counts as evictable, and as protected."""
        prefixes = _COUNTED_AS.get(pool.component, (f"{pool.component.lower()}_",))
        return self._count(prefixes, "evictable_size"), self._count(prefixes, "protected_size")

    def _count(self, prefixes: tuple[str, ...], name: str) -> int | None:
        for prefix in prefixes:
            method = getattr(self._stack.cache, f"{prefix}{name}", None)
            if method is not None and _is_own(self._stack.cache, f"{prefix}{name}"):
                found = method()
                return int(found) if isinstance(found, int) else None
        return None


def _is_own(cache: Any, name: str) -> bool:  # noqa: ANN401 - a tree of the release
    """Return whether a tree counts by itself: the abstract base of all trees counts nothing."""
    owner = next(cls for cls in type(cache).__mro__ if name in vars(cls))
    takes_nothing = len(inspect.signature(getattr(owner, name)).parameters) == 1
    return takes_nothing and not inspect.isabstract(owner)


def counted_pools(stack: AssembledStack) -> Iterator[CountedPool]:
    """Yield the pools with slots of their own, device pools first."""
    entries = entries_of(stack.group)
    own = {name: entries[name] for name in _own_entries(entries, dict(stack.sidecars))}
    for name, allocator in ({_KV: stack.full_allocator} | _device_allocators(own)).items():
        if _counts_slots(allocator):
            yield _counted(name, "device", allocator)
    hosts = {name: entry.host_pool for name, entry in own.items()} or {_KV: stack.group}
    for name, pool in hosts.items():
        if _counts_slots(pool):
            yield _counted(name, "host", pool)


def _own_entries(entries: Mapping[str, Any], sidecars: Mapping[str, str]) -> Iterator[str]:
    for name, entry in entries.items():
        follows = name in sidecars or getattr(entry, "share_indices_with_anchor", False)
        if name == _KV or not follows:
            yield name


def _device_allocators(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the objects that allocate the device slots of the entries beside the KV."""
    found: dict[str, Any] = {}
    for name, entry in entries.items():
        function = getattr(entry, "device_alloc_fn", None)
        owner = function.__self__ if isinstance(function, MethodType) else entry.device_pool
        if name != _KV:
            found[name] = owner
    return found


def _counts_slots(allocator: Any) -> bool:  # noqa: ANN401 - anything that may allocate slots
    return callable(getattr(allocator, "available_size", None))


def _counted(name: str, side: PoolSide, allocator: Any) -> CountedPool:  # noqa: ANN401
    component = FULL if name == _KV else name
    free = int(allocator.available_size())
    return CountedPool(pool=name, component=component, side=side, allocator=allocator, total=free)
