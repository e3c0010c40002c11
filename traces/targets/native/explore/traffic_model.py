"""Model of the contents that traffic leaves in a native stack."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch

from assembler import PoolName
from assembler.cache.nodes import CacheNode
from assembler.cache.prefixes import IncLockRefResult
from assembler.device_pools.base import SlotAllocator
from assembler.host_pools.base import HostKVCache
from assembler.names import ComponentType
from traces.targets.native.rows import ComponentRows

Side: TypeAlias = Literal["device", "host"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNode:
    """A node and the bytes that were written for it: by pool, the rows of each of its buffers.

    Attributes:
        node: the last one of its tokens: what storage brings back may be shorter, or several nodes.
        tokens: that the bytes were written for, those of a shared prefix included.
    """

    node: CacheNode
    content: dict[PoolName, list[torch.Tensor]]
    tokens: tuple[int, ...]

    def slots(self, component: ComponentType, side: Side) -> torch.Tensor | None:
        """Return the slots of a component on one side; None where there are none, or not all.

        Window slots are those of the last tokens.
        """
        path = self.node.path()
        parts = [getattr(part, side).get(component) for part in path]
        if component is ComponentType.MAMBA:
            return parts[-1] if self._length == len(self.tokens) else None
        if component is ComponentType.SWA:
            kept = list(itertools.takewhile(lambda part: part is not None, reversed(parts)))[::-1]
        else:
            kept = [] if any(part is None for part in parts) else parts
        return torch.cat(kept) if kept else None

    def shares_nodes(self, others: "list[ModelNode]") -> bool:
        """Return whether a node on the way to this one is on the way to one of the others."""
        own = set(self.node.path())
        return any(part in own for other in others for part in other.node.path())

    def missing_slots(self) -> dict[ComponentType, torch.Tensor]:
        """Return the host slots of what the device lacks, by component."""
        missing: dict[ComponentType, list[torch.Tensor]] = {}
        for part in self.node.path():
            for component in part.missing_on_device():
                missing.setdefault(component, []).append(part.host[component])
        return {component: torch.cat(slots) for component, slots in missing.items()}

    def rows(self, buffer: ComponentRows, content: torch.Tensor, slot_num: int) -> torch.Tensor:
        """Return the rows that the last ``slot_num`` slots of a component must hold."""
        if buffer.component is ComponentType.MAMBA:
            return content
        end = self._length // buffer.slots_per_row
        return content[end - slot_num // buffer.slots_per_row : end]

    @property
    def _length(self) -> int:
        return sum(len(part) for part in self.node.path())


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRows:
    """The rows of a prefix that a new node shares with ``base``.

    Attributes:
        shared: tokens at the front whose rows are those of ``base``.
        cached: tokens at the front that the device serves, so that nobody writes them.
    """

    base: ModelNode | None
    shared: int
    cached: int

    def of(self, pool: PoolName, number: int) -> "SharedPlane":
        """Return the rows of one buffer of a pool."""
        content = None if self.base is None else self.base.content[pool][number]
        return SharedPlane(content=content, shared=self.shared, cached=self.cached)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPlane:
    """The rows of a shared prefix in one buffer; None for no prefix."""

    content: torch.Tensor | None
    shared: int
    cached: int

    def rows_of(self, buffer: ComponentRows) -> tuple[torch.Tensor, int]:
        """Return the shared rows, and how many tokens of the prefix nobody writes.

        Nobody shares a state: each belongs to the last token.
        """
        if self.content is None or buffer.component is ComponentType.MAMBA:
            return torch.empty((0, buffer.tensor[0].nbytes), dtype=torch.uint8), 0
        return self.content[: self.shared // buffer.slots_per_row], self.cached


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchedLoad:
    """A load that waits for its forward pass."""

    producer: int
    numbers: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRead:
    """Bytes that a reader copied, to be compared when the device is idle."""

    reader: str
    copied: torch.Tensor
    content: torch.Tensor


@dataclass(slots=True, kw_only=True)
class ReservedSlots:
    """Slots that traffic took away from one owner."""

    owner: SlotAllocator | HostKVCache
    slots: torch.Tensor


@dataclass(slots=True, kw_only=True)
class TrafficModel:
    """The state that a stack must have after the traffic so far.

    Attributes:
        nodes: that exist, by number.
        locks: that requests hold on nodes that are loaded for them, by number.
        queued: numbers of nodes whose load waits to be launched.
        launched: oldest first.
        pending_reads: since the last comparison.
        written: every node there ever was, by number.
        requests: names of the requests that fetch a node, by number.
    """

    nodes: dict[int, ModelNode] = field(default_factory=dict)
    locks: dict[int, IncLockRefResult] = field(default_factory=dict)
    queued: list[int] = field(default_factory=list)
    launched: list[LaunchedLoad] = field(default_factory=list)
    pending_reads: list[PendingRead] = field(default_factory=list)
    written: dict[int, ModelNode] = field(default_factory=dict)
    requests: dict[int, str] = field(default_factory=dict)
    reserved: list[ReservedSlots] = field(default_factory=list)

    def known(self, numbers: Iterable[int]) -> list[ModelNode]:
        """Return the nodes of these numbers, those that exist."""
        return [self.nodes[number] for number in numbers if number in self.nodes]

    def forget_dropped(self) -> None:
        """Drop the nodes that the cache dropped."""
        nodes = self.nodes.items()
        self.nodes = {at: known for at, known in nodes if known.node.device or known.node.host}

    def forget_cache(self) -> None:
        """Drop the nodes of a reset cache, and the reserved host slots, which it frees."""
        self.nodes.clear()
        self.requests.clear()
        self.locks.clear()
        self.queued = []
        self.launched.clear()
        self.reserved = [one for one in self.reserved if not isinstance(one.owner, HostKVCache)]
