"""The ledger of a tree, over nodes as releases have them: with fields, or with records of parts."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from traces.targets.sglang import tree_nodes
from traces.targets.sglang.tree_ledger import CountedPool, TreeLedger


class Key:
    def __init__(self, *tokens: int) -> None:
        # A later release keeps more tokens than the key has.
        self.token_ids = [*tokens, 999]

    def __len__(self) -> int:
        return len(self.token_ids) - 1


class Node:
    """A node of an earlier release."""

    def __init__(self, *tokens: int) -> None:
        self.children: dict[int, Node] = {}
        self.key = Key(*tokens)
        self.value: torch.Tensor | None = torch.arange(len(tokens))
        self.host_value: torch.Tensor | None = None
        self.mamba_value: torch.Tensor | None = None
        self.lock_ref = 0
        self.host_ref_counter = 0
        self.mamba_lock_ref = 0
        self.hit_count = 7
        self.block_num = 9


@dataclass
class Part:
    value: torch.Tensor | None = None
    host_value: torch.Tensor | None = None
    lock_ref: int = 0
    host_lock_ref: int = 0


@dataclass
class PartedNode:
    """A node of a later release, whose parts are numbered."""

    key: Key
    component_data: list[Part]
    children: dict[int, Any] = field(default_factory=dict)


class Counts:
    """Numbers of slots, as trees give them."""

    def evictable_size(self) -> int:
        return 4

    def protected_size(self) -> int:
        return 2


def ledger(cache: object) -> TreeLedger:
    allocator = SimpleNamespace(available_size=lambda: 10)
    pools = tuple(
        CountedPool(pool=name, component=part, side=side, allocator=allocator, total=16)
        for name, part, side in (
            ("KV", "FULL", "device"),
            ("MAMBA", "MAMBA", "device"),
            ("KV", "FULL", "host"),
        )
    )
    return TreeLedger(SimpleNamespace(cache=cache), pools=pools, step="life")  # type: ignore[arg-type]


def read(cache: object) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return locks, and balances."""
    records = list(ledger(cache).read("now"))
    locks = [
        (one.node, one.component, one.device, one.host) for one in records if hasattr(one, "node")
    ]
    balances = [
        (one.owner, one.free, one.cached, one.evictable, one.protected)
        for one in records
        if hasattr(one, "owner")
    ]
    return locks, balances


def cache_with(root: object) -> Counts:
    cache = Counts()
    vars(cache)["root_node"] = root
    return cache


def test_locks_and_slots_of_fields_are_told_apart_by_side_and_part():
    root, parent, child = Node(), Node(1, 2), Node(3, 4, 5, 6)
    root.children[1], parent.children[3] = parent, child
    root.lock_ref = 1
    parent.lock_ref, child.host_ref_counter, child.mamba_lock_ref = 2, 1, 3
    child.host_value, child.mamba_value = torch.arange(4), torch.tensor([8])

    locks, balances = read(cache_with(root))

    assert locks == [("1-2", "FULL", 2, 0), ("1-6", "FULL", 0, 1), ("1-6", "MAMBA", 3, 0)]
    assert balances == [
        ("device.KV", 10, 6, 4, 2),
        ("device.MAMBA", 10, 1, None, None),
        ("host.KV", 10, 4, None, None),
    ]


def test_locks_and_slots_of_numbered_parts_have_the_names_of_the_release(monkeypatch):
    kinds = {0: SimpleNamespace(name="FULL"), 2: SimpleNamespace(name="MAMBA")}
    release = SimpleNamespace(find=lambda _: kinds.get)
    monkeypatch.setattr(tree_nodes, "installed_release", lambda: release)
    full = Part(value=torch.arange(3), lock_ref=1, host_lock_ref=2)
    parts = [full, Part(), Part(host_value=torch.tensor([5]), lock_ref=1)]
    kinds[1] = SimpleNamespace(name="SWA")
    root = PartedNode(Key(), [], {1: PartedNode(Key(1, 2, 3), parts)})

    locks, balances = read(cache_with(root))

    assert locks == [("1-3", "FULL", 1, 2), ("1-3", "MAMBA", 1, 0)]
    assert [one[2] for one in balances] == [3, 0, 0]


def test_nodes_that_a_release_does_not_show_leave_the_counts():
    class Closed(Counts):
        @property
        def root_node(self) -> object:
            raise NotImplementedError

    locks, balances = read(Closed())

    assert locks == []
    assert balances[0] == ("device.KV", 10, None, 4, 2)


@pytest.mark.parametrize("moment", ["now", "then"])
def test_what_the_scenario_took_is_its_own(moment):
    found = ledger(cache_with(Node()))
    found.held["host", "KV"] = 5

    held = [(one.owner, one.moment, one.held) for one in found.read(moment)]

    assert held == [
        ("device.KV", moment, 0),
        ("device.MAMBA", moment, 0),
        ("host.KV", moment, 5),
    ]


def test_nodes_with_a_priority_are_told_by_their_tokens():
    root, urgent, plain = Node(), Node(1, 2), Node(3)
    root.children = {1: urgent, 3: plain}
    root.priority, urgent.priority = 9, 4

    answer = ledger(cache_with(root)).read_priorities("kept")

    assert (answer.method, answer.values) == ("priority kept", [["1-2", 4]])


def test_tokens_that_are_being_fetched_are_told_where_a_controller_counts_them():
    controller = SimpleNamespace(prefetch_tokens_occupied=32)
    ledger = TreeLedger(SimpleNamespace(controller=controller), pools=(), step="step")
    (answer,) = ledger.read_occupied("aborted")
    told = (answer.holder, answer.method, answer.values)
    assert told == ("controller", "prefetch_tokens_occupied: aborted", [32])
    stack = SimpleNamespace(controller=SimpleNamespace())
    assert list(TreeLedger(stack, pools=(), step="step").read_occupied("aborted")) == []
