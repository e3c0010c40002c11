"""Storage of a small tree that is detached, attached again and cleared: a wrong one shows."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.traces.targets.sglang import test_tree_script as plain
from tests.traces.targets.sglang.stored_trees import (
    CLASSES,
    Storage,
    StoredTree,
    digest,
    play_tree,
)
from traces.schema.life import NodeLocks, PoolBalance
from traces.schema.model import RoundTrip
from traces.schema.pools import PoolAnswer
from traces.schema.storage_records import StorageMatch
from traces.targets.sglang import storage_attachment, storage_driver, tree_client
from traces.targets.sglang.storage_attachment import STEP
from traces.targets.sglang.tree_storage_script import STEP as PREFETCHES
from traces.targets.sglang.tree_storage_script import TreeStorageScript, later_steps

POLICIES = ("best_effort", "wait_complete", "timeout")


class AttachableTree(StoredTree):
    """Stores and prefetches while storage is attached."""

    def check_hicache_events(self) -> None:
        if self.controller.storage_backend is None:
            plain.WriteThroughTree.check_hicache_events(self)
        else:
            super().check_hicache_events()

    def attach_storage_backend(
        self, storage_backend: str, hicache_storage_prefetch_policy: str
    ) -> tuple[bool, str]:
        if hicache_storage_prefetch_policy not in POLICIES:
            return False, "no such policy"
        if self.controller.storage_backend is not None:
            return storage_backend == "dynamic", "is attached"
        self.storage = self.controller.storage_backend = Storage()
        self.use_policy(hicache_storage_prefetch_policy)
        return True, ""

    def use_policy(self, policy: str) -> None:
        self.prefetch_stop_policy = policy

    def detach_storage_backend(self) -> tuple[bool, str]:
        self.give_up()
        self.controller.storage_backend = None
        return True, ""

    def give_up(self) -> None:
        self._asked.clear()

    def clear_storage_backend(self) -> bool:
        self.storage.pages.clear()
        return True


class GivesNothingUp(AttachableTree):
    def give_up(self) -> None:
        """The prefix of a prefetch stays locked."""


class ClearsNothing(AttachableTree):
    def clear_storage_backend(self) -> bool:
        return True


class IgnoresPolicy(AttachableTree):
    def use_policy(self, policy: str) -> None:
        """Keep that of the last request."""


class StoresLastLayerTwice(AttachableTree):
    def keep(self, path: Any) -> None:
        super().keep(path)
        rows = self._pages[path].host
        self._pages[path].host = [rows[-1] for _ in rows]


class AcceptsEverything(AttachableTree):
    def attach_storage_backend(
        self, storage_backend: str, hicache_storage_prefetch_policy: str
    ) -> tuple[bool, str]:
        super().attach_storage_backend(storage_backend, hicache_storage_prefetch_policy)
        return True, ""


class IsBusy(AttachableTree):
    def detach_storage_backend(self) -> tuple[bool, str]:
        return False, "a thread is\n busy"


@pytest.fixture
def refused(monkeypatch):
    """What was refused, in order."""
    found = []
    monkeypatch.setattr(
        storage_attachment, "report_storage_use", lambda **told: found.append(told["key"])
    )
    return found


@pytest.fixture
def play(device, monkeypatch):
    monkeypatch.setattr(tree_client, "find_class", CLASSES.__getitem__)
    monkeypatch.setattr(
        storage_driver, "find_part", lambda _, name: digest if "hash" in name else None
    )
    return lambda cls=AttachableTree: play_tree(cls, TreeStorageScript, device, step=STEP)


def arrived(found):
    return {
        one.phase: (one.available, one.arrived, one.is_over)
        for one in found
        if isinstance(one, StorageMatch)
    }


RIGHT = {
    "attached again": (16, 16, False),
    "cleared": (0, 0, True),
    "stored again": (16, 16, True),
}


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (AttachableTree, {}),
        (IgnoresPolicy, {"attached again": (16, 0, True)}),
        (ClearsNothing, {"cleared": (16, 16, True)}),
    ],
)
def test_what_was_stored_comes_back_by_the_policy_until_storage_is_cleared(play, cls, wrong):
    assert arrived(play(cls)) == {**RIGHT, **wrong}


class RoundsUp(AttachableTree):
    def use_policy(self, policy: str) -> None:
        super().use_policy(policy)
        self.controller.prefetch_threshold = 8


@pytest.mark.parametrize(("cls", "threshold"), [(AttachableTree, 1), (RoundsUp, 8)])
def test_the_threshold_that_the_controller_keeps_is_told(play, cls, threshold):
    kept = [one for one in play(cls) if isinstance(one, PoolAnswer)]
    assert [(one.method, one.values) for one in kept] == [("prefetch_threshold", [threshold])]


QUERIED = "detached while a prefetch is queried"


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (AttachableTree, {f"{QUERIED}: under way"}),
        (GivesNothingUp, {f"{QUERIED}: under way", QUERIED}),
    ],
)
def test_a_lock_that_a_detached_tree_keeps_shows(play, cls, expected):
    locks = [one for one in play(cls) if isinstance(one, NodeLocks)]
    assert {one.moment for one in locks if one.moment.startswith(QUERIED)} == expected


def test_pages_that_come_back_are_compared(play):
    assert trips(play()) == [True]
    assert trips(play(StoresLastLayerTwice)) == [False]


def trips(found):
    return [one.equal for one in found if isinstance(one, RoundTrip) and one.step == STEP]


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (
            AttachableTree,
            ["attach with an unknown policy: refused", "attach another backend: refused"],
        ),
        (AcceptsEverything, []),
    ],
)
def test_an_attachment_that_must_be_refused_shows(play, refused, cls, expected):
    play(cls)
    assert refused == expected


def test_storage_that_cannot_be_detached_is_cleared_and_told_with_the_reason(play, refused):
    found = arrived(play(IsBusy))
    assert found == {name: RIGHT[name] for name in ("cleared", "stored again")}
    assert refused == ["detach with nothing under way: a thread is busy"]


def test_every_slot_has_an_owner_at_every_moment(play):
    balances = [one for one in play() if isinstance(one, PoolBalance)]
    assert len({one.moment for one in balances}) == 9
    assert all(one.free + one.cached + one.held == one.total for one in balances)


def test_a_tree_whose_storage_cannot_be_detached_has_no_such_step():
    both = {"attach_storage_backend": dict, "detach_storage_backend": dict}
    assert later_steps(SimpleNamespace(**both)) == (PREFETCHES, STEP)
    assert later_steps(SimpleNamespace(attach_storage_backend=dict)) == (PREFETCHES,)
    assert later_steps(SimpleNamespace()) == (PREFETCHES,)
    first_stage = SimpleNamespace(pp_prefetch_command_group="group")
    assert later_steps(SimpleNamespace(**both, cache_controller=first_stage)) == (PREFETCHES,)
    lone = SimpleNamespace(pp_prefetch_command_group=None)
    assert later_steps(SimpleNamespace(**both, cache_controller=lone)) == (PREFETCHES, STEP)
