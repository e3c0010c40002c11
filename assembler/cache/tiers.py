"""Tiers of a radix tree: which nodes have slots on one side, and which of them may leave first."""

from collections.abc import Iterator
from typing import Literal

import torch

from assembler.cache.nodes import CacheNode, ComponentSlots
from assembler.names import ComponentType


class Tier:
    """The nodes that have slots on the device, or on the host.

    Attributes:
        leaves: nodes with full KV here, no child of which has full KV here.
        holders: by component beside the full KV, the nodes that have it here.
        tokens: tokens whose full KV is here.
        protected: those of them that belong to a locked node.
    """

    def __init__(self, side: Literal["device", "host"]) -> None:
        self._side = side
        self.clear()

    def clear(self) -> None:
        """Forget every node."""
        # Keys of a dictionary: a set of nodes would have another order in every run.
        self.leaves: dict[CacheNode, None] = {}
        self.holders: dict[ComponentType, dict[CacheNode, None]] = {
            ComponentType.SWA: {},
            ComponentType.MAMBA: {},
        }
        self.tokens = 0
        self.protected = 0
        # By node with at least one: its children that have full KV here.
        self._children: dict[CacheNode, int] = {}

    def parts(self, node: CacheNode) -> ComponentSlots:
        """Return the slots of a node on this side, by component."""
        return node.device if self._side == "device" else node.host

    def locks_of(self, node: CacheNode, component: ComponentType) -> int:
        """Return the locks that keep the slots of a component on this side."""
        locks = node.locks_of(component)
        return locks if self._side == "device" else locks + node.host_lock_ref

    def put(self, node: CacheNode, component: ComponentType, slots: torch.Tensor) -> None:
        """Give a node slots of a component that it does not have here."""
        self._set(node, component, slots)
        if component is ComponentType.FULL:
            self._add_full(node)
        else:
            self.holders[component][node] = None

    def take(self, node: CacheNode, component: ComponentType) -> torch.Tensor:
        """Take the slots of a component from a node and return them."""
        slots = self.parts(node)[component]
        self._set(node, component, None)
        if component is not ComponentType.FULL:
            self.holders[component].pop(node, None)
            return slots
        self.leaves.pop(node, None)
        self.tokens -= len(node)
        if node.lock_ref:
            self.protected -= len(node)
        parent = node.parent
        assert parent is not None, "a root has no slots"
        self._children[parent] -= 1
        if not self._children[parent]:
            del self._children[parent]
            if self.parts(parent).full is not None:
                self.leaves[parent] = None
        return slots

    def note_lock(self, node: CacheNode, *, is_locked: bool) -> None:
        """Count the tokens of a node that was locked, or that lost its last lock."""
        if self.parts(node).full is not None:
            self.protected += len(node) if is_locked else -len(node)

    def split(self, upper: CacheNode, lower: CacheNode) -> None:
        """Share the slots of ``lower``, which was longer, with ``upper``, its new parent.

        Full slots and window slots go with their tokens; a state stays with the last token.
        """
        parts = self.parts(lower)
        if parts.full is not None:
            # Clones: a view would keep the memory of both halves as long as one of them lives.
            self._set(upper, ComponentType.FULL, parts.full[: len(upper)].clone())
            self._set(lower, ComponentType.FULL, parts.full[len(upper) :].clone())
            self._children[upper] = 1
        if parts.swa is not None and len(parts.swa) > len(lower):
            cut = len(parts.swa) - len(lower)
            self.put(upper, ComponentType.SWA, parts.swa[:cut].clone())
            self._set(lower, ComponentType.SWA, parts.swa[cut:].clone())

    def holders_of(self, component: ComponentType) -> Iterator[CacheNode]:
        """Yield the nodes with a component that can leave: of the full KV only the leaves."""
        is_full = component is ComponentType.FULL
        yield from self.leaves if is_full else self.holders[component]

    def _set(self, node: CacheNode, component: ComponentType, slots: torch.Tensor | None) -> None:
        parts = self.parts(node).with_slots(component, slots)
        if self._side == "device":
            node.device = parts
        else:
            node.host = parts

    def _add_full(self, node: CacheNode) -> None:
        self.tokens += len(node)
        if node.lock_ref:
            self.protected += len(node)
        parent = node.parent
        assert parent is not None, "a root has no slots"
        self._children[parent] = self._children.get(parent, 0) + 1
        self.leaves.pop(parent, None)
        if node not in self._children:
            self.leaves[node] = None
