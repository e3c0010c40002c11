"""Nodes of a radix tree: blocks of tokens, and the slots that they have on each side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch
from typing_extensions import override

from assembler.cache.keys import TOKEN_BYTES
from assembler.device.base import Device
from assembler.errors import AssemblyError
from assembler.names import ComponentType

# Most nodes have no child. One empty mapping for all of them, which nobody can write to, saves the
# memory of a dictionary a node.
_NO_CHILDREN: Any = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ComponentSlots(Mapping[ComponentType, torch.Tensor]):
    """Slots of a node on one side by component, in a quarter of the memory of a dictionary.

    Attributes:
        full, swa, mamba: ``(slots,) int64`` of each component; None where the node has none.
    """

    full: torch.Tensor | None = None
    swa: torch.Tensor | None = None
    mamba: torch.Tensor | None = None

    @override
    def __getitem__(self, component: ComponentType) -> torch.Tensor:
        slots: torch.Tensor | None = getattr(self, component)
        if slots is None:
            raise KeyError(component)
        return slots

    @override
    def __contains__(self, component: object) -> bool:
        return isinstance(component, ComponentType) and getattr(self, component) is not None

    @override
    def __iter__(self) -> Iterator[ComponentType]:
        return (one for one in ComponentType if getattr(self, one) is not None)

    @override
    def __len__(self) -> int:
        return (self.full is not None) + (self.swa is not None) + (self.mamba is not None)

    def with_slots(self, component: ComponentType, slots: torch.Tensor | None) -> "ComponentSlots":
        """Return these slots with those of one component replaced, or left out for None."""
        return replace(self, **{component: slots})


NO_SLOTS = ComponentSlots()
"""The slots of a node on a side that has nothing of it."""


@dataclass(slots=True, eq=False, kw_only=True)
class CacheNode:
    """A block of cached tokens that follow the tokens of its parent.

    Full KV has a slot for each token, a window has the slots of the node's last tokens, and a state
    has one slot, which holds the state after the last token.

    Attributes:
        id: unique in its cache; names the node in acknowledgements.
        key: the tokens, as :class:`~assembler.cache.keys.RadixKey` has them; whole pages.
        parent: the node before; None for the root of a namespace, and for a node that left.
        children: the nodes after, by their first page.
        device: ``(slots,) int64`` device slots by component; empty when evicted.
        host: ``(slots,) int64`` host slots by component; empty when not backed up.
        lock_ref: users and copies of this node or of one below: nothing of it leaves the tree.
        window_lock_ref: those that need its window slots.
        state_lock_ref: those that need its state.
        host_lock_ref: storage operations on this node or on one below: its host slots stay.
        page_keys: storage keys of its pages, in order; empty while nobody asked for them.
        hit_count: number of insertions.
        last_use: time of the last use, in operations of the tree.
    """

    id: int
    key: bytes = b""
    parent: "CacheNode | None" = None
    children: "dict[bytes, CacheNode]" = field(default_factory=lambda: _NO_CHILDREN)
    device: ComponentSlots = field(default_factory=lambda: NO_SLOTS)
    host: ComponentSlots = field(default_factory=lambda: NO_SLOTS)
    lock_ref: int = 0
    window_lock_ref: int = 0
    state_lock_ref: int = 0
    host_lock_ref: int = 0
    page_keys: tuple[str, ...] = ()
    hit_count: int = 0
    last_use: int = 0

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.key) // TOKEN_BYTES

    def __bool__(self) -> bool:
        """Return True: a root has no tokens and is a node all the same."""
        return True

    @property
    def is_backed_up(self) -> bool:
        """True when the host has, or is about to have, the full KV of the node."""
        return self.host.full is not None

    @property
    def is_evicted(self) -> bool:
        """True when the device does not have the full KV of the node."""
        return self.device.full is None

    def locks_of(self, component: ComponentType) -> int:
        """Return the locks that keep the slots of a component."""
        if component is ComponentType.SWA:
            return self.window_lock_ref
        return self.state_lock_ref if component is ComponentType.MAMBA else self.lock_ref

    def missing_on_device(self) -> list[ComponentType]:
        """Return the components that only the host has."""
        return [component for component in self.host if component not in self.device]

    def missing_on_host(self) -> list[ComponentType]:
        """Return the components that only the device has."""
        return [component for component in self.device if component not in self.host]

    def path(self) -> "list[CacheNode]":
        """Return the nodes from the first token to this node, without the root."""
        nodes: list[CacheNode] = []
        node = self
        while node.parent is not None:
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        return nodes


def full_slots(path: Sequence[CacheNode], *, device: Device) -> torch.Tensor:
    """Return the full slots of a path on ``device``, ``(slots,) int64``.

    Raises:
        AssemblyError: the device lacks some of them.
    """
    slots: list[torch.Tensor] = []
    for node in path:
        full = node.device.full
        if full is None:
            rule = "the device must have every token of a path"
            raise AssemblyError(f"node {node.id}", rule, expected="its slots", got="none")
        slots.append(full)
    if not slots:
        return device.zeros((0,), torch.int64)
    return slots[0] if len(slots) == 1 else torch.cat(slots)
