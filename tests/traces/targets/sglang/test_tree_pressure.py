"""Loads that find the device full: what is taken before one is given back behind it."""

from collections import Counter
from types import SimpleNamespace

import torch

from traces.targets.sglang.tree_ledger import CountedPool
from traces.targets.sglang.tree_pressure import TreePressure

PAGE, PART = 4, 8


class Slots:
    def __init__(self, number):
        self.number = number

    def available_size(self):
        return self.number

    def alloc(self, need):
        self.number -= need
        return torch.arange(need)

    def free(self, slots):
        self.number += len(slots)


class Tree:
    """Has the first two of four sequences on the host alone, and evicts where there is no room."""

    def __init__(self, device):
        self.device, self.evicted, self.free_at_load = device, 0, []

    def key(self, tokens, _namespace):
        return tokens[0]

    def match(self, key, _request):
        return SimpleNamespace(host_hit_length=2 * PART if key < 24000 else 0)

    def load_back(self, match, _request):
        self.free_at_load.append(self.device.number)
        self.evicted += max(0, match.host_hit_length - self.device.number)


class Driver:
    part = PART

    def __init__(self):
        self.device = Slots(32)
        self.tree = Tree(self.device)
        self.slots = SimpleNamespace(
            room=lambda: self.device.number,
            take=self.device.alloc,
            return_slots=self.device.free,
        )
        self.inserted = []

    def sequence(self, name, **parts):
        tokens = [number * 1000 for number in parts.values()]
        return SimpleNamespace(name=name, raw_tokens=tokens, namespace=None)

    def insert(self, sequence):
        self.inserted.append(sequence.name)

    def insert_again(self, sequence):
        """The tree has it by now."""

    def acknowledge(self):
        """Nothing is on its way."""

    def flush(self):
        self.inserted.clear()


def played(monkeypatch):
    monkeypatch.setattr(
        "traces.targets.sglang.tree_pressure.TreeRequest",
        lambda _name: SimpleNamespace(take_match=lambda _match: None, states_taken=lambda: ()),
    )
    host, moments = Slots(100), []
    pool = CountedPool(pool="KV", component="FULL", side="host", allocator=host, total=100)

    def read(moment, *, is_final=False):
        moments.append((moment, host.number, is_final))
        return iter(())

    ledger = SimpleNamespace(
        pools=(pool,), held=Counter(), step="full", read=read, read_locks=lambda _: iter(())
    )
    driver = Driver()
    stack = SimpleNamespace(page_size=PAGE)
    list(TreePressure(stack, driver=driver, ledger=ledger).run())
    return driver, host, moments, ledger


def test_the_host_has_room_for_two_sequences_while_four_are_inserted(monkeypatch):
    driver, host, moments, ledger = played(monkeypatch)
    assert driver.inserted == [f"pressure_{number}" for number in range(4)]
    assert moments[0] == ("full", 2 * 2 * PART, True)
    assert (host.number, ledger.held["host", "KV"]) == (100, 0)


def test_a_load_finds_no_free_slot_and_what_was_taken_is_given_back(monkeypatch):
    driver, _, moments, _ = played(monkeypatch)
    assert driver.tree.free_at_load == [0, 0]
    assert driver.tree.evicted == 2 * 2 * PART
    assert driver.device.number == 32
    assert [moment for moment, *_ in moments] == [
        "full",
        "loaded_pressure_0",
        "loaded_pressure_1",
    ]
