"""Prefetches of a small tree with storage: what is recorded, and that a wrong tree shows."""

import pytest
import torch.distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from tests.traces.targets.sglang.stored_trees import (
    CLASSES,
    AgreesWithPeers,
    ForgetsNamespace,
    GoesOnAlone,
    HasNoThreshold,
    IsNeverWaitedFor,
    KeepsWhatFailed,
    LocksNoPrefix,
    StoredTree,
    StoresLastLayerTwice,
    UnlocksNoPrefix,
    digest,
    play_tree,
)
from tests.traces.targets.sglang.test_tree_script import SLOTS
from traces.schema.life import NodeLocks, PoolBalance
from traces.schema.model import RoundTrip
from traces.schema.storage_records import StorageMatch
from traces.targets.sglang import storage_driver, tree_client
from traces.targets.sglang.tree_storage_script import STEP, TreeStorageScript


@pytest.fixture
def play(device, monkeypatch):
    monkeypatch.setattr(tree_client, "find_class", CLASSES.__getitem__)
    monkeypatch.setattr(
        storage_driver, "find_part", lambda _, name: digest if "hash" in name else None
    )
    return lambda cls=StoredTree: play_tree(cls, TreeStorageScript, device)


def matches(found):
    """Tokens asked for, available, hit and arrived, and whether it was over, by phase."""
    return {
        one.phase: (one.asked, one.available, one.hits, one.arrived, one.is_over)
        for one in found
        if isinstance(one, StorageMatch)
    }


RIGHT = {
    "whole": (16, 16, 16, 16, True),
    "behind its first half": (8, 8, 8, 8, True),
    "once more": (16, 16, 16, 16, True),
    "behind its first half while the tree evicts": (8, 8, 8, 8, False),
    "KV without a page": (16, 8, 8, 8, True),
    "KV fails at a page": (16, 8, 16, 8, True),
    "fewer hits than the threshold": (16, 8, 8, 0, True),
    "a peer finds a page less": (16, None, 16, 16, True),
    "a peer fetches a page less": (16, None, 16, 16, True),
    "below the threshold": (16, 16, 0, 0, True),
    "aborted at once": (16, 16, 16, 0, True),
    "aborted": (16, 16, 16, 0, True),
    "not waited for": (16, 16, 16, 0, True),
    "waited for": (16, 16, 16, 16, False),
    "behind its first half, KV without a page": (8, 0, 0, 0, True),
    "behind its first half, KV fails at a page": (8, 0, 8, 0, True),
    "behind its first half, fewer hits than the threshold": (8, 0, 0, 0, True),
    "behind its first half, a peer finds a page less": (8, None, 8, 8, True),
    "behind its first half, a peer fetches a page less": (8, None, 8, 8, True),
    "behind its first half, below the threshold": (8, 8, 0, 0, True),
    "behind its first half, aborted at once": (8, 8, 8, 0, True),
    "behind its first half, aborted": (8, 8, 8, 0, True),
    "behind its first half, not waited for": (8, 8, 8, 0, True),
    "behind its first half, waited for": (8, 8, 8, 8, False),
    "in another namespace": (16, None, 0, 0, True),
    "in its namespace": (16, None, 16, 16, True),
    "in its namespace, behind its first half": (8, None, 8, 8, True),
    "behind a half, KV fails at a page": (8, 0, 8, 0, True),
}


def trips(found):
    return [one.equal for one in found if isinstance(one, RoundTrip) and one.step == STEP]


def test_right_tree_keeps_what_arrived_and_nothing_else(play):
    found = play()
    assert matches(found) == RIGHT
    assert trips(found) == [True]


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (
            KeepsWhatFailed,
            {
                "KV fails at a page": (16, 8, 16, 16, True),
                "fewer hits than the threshold": (16, 8, 8, 8, True),
                "behind its first half, KV fails at a page": (8, 0, 8, 8, True),
                "behind a half, KV fails at a page": (8, 0, 8, 8, True),
            },
        ),
        (
            HasNoThreshold,
            {
                "fewer hits than the threshold": (16, 8, 8, 8, True),
            },
        ),
        (
            ForgetsNamespace,
            {
                "KV fails at a page": (16, 8, 16, 16, True),
                "fewer hits than the threshold": (16, 8, 8, 8, True),
                "behind its first half, KV fails at a page": (8, 0, 8, 8, True),
                "behind a half, KV fails at a page": (8, 0, 8, 8, True),
                "in another namespace": (16, None, 16, 16, True),
            },
        ),
        (
            IsNeverWaitedFor,
            {
                "waited for": (16, 16, 16, 0, True),
                "behind its first half, waited for": (8, 8, 8, 0, True),
                "behind its first half while the tree evicts": (8, 8, 8, 0, True),
            },
        ),
        (LocksNoPrefix, {"behind its first half while the tree evicts": (8, 8, 8, -8, False)}),
    ],
)
def test_wrong_tree_shows_in_the_phase_that_it_gets_wrong(play, cls, wrong):
    assert matches(play(cls)) == {**RIGHT, **wrong}


@pytest.fixture
def ranks():
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("ranks")
def test_tree_keeps_what_every_rank_has_found_and_fetched(play):
    assert matches(play(AgreesWithPeers)) == {
        **RIGHT,
        "a peer finds a page less": (16, None, 16, 12, True),
        "a peer fetches a page less": (16, None, 16, 12, True),
        "behind its first half, a peer finds a page less": (8, None, 8, 4, True),
        "behind its first half, a peer fetches a page less": (8, None, 8, 4, True),
    }


@pytest.mark.usefixtures("ranks")
def test_tree_that_keeps_more_than_its_peers_shows(play):
    assert matches(play(GoesOnAlone)) == RIGHT


def test_page_that_comes_back_with_other_bytes_is_no_equal_round_trip(play):
    found = play(StoresLastLayerTwice)
    assert matches(found) == RIGHT
    assert trips(found) == [False]


def locks(found):
    """The moments at which nodes are locked on the host, with the first tokens of these nodes."""
    told: dict[str, list[str]] = {}
    for one in found:
        if isinstance(one, NodeLocks) and one.host:
            told.setdefault(one.moment, []).append(one.node.partition(",")[0])
    return told


HELD = [
    "behind its first half while the tree evicts: queried",
    "behind its first half, aborted: queried",
    "behind its first half, not waited for: queried",
    "behind its first half, waited for: queried",
]
PREFIX = ["1000-1003", "1000-1007"]


def test_nodes_in_front_of_a_prefetch_are_locked_while_it_is_queried(play):
    assert locks(play()) == dict.fromkeys(HELD, PREFIX)


def test_a_lock_that_is_not_taken_shows(play):
    assert locks(play(LocksNoPrefix)) == {}


def test_a_lock_that_is_never_given_up_shows_when_all_is_over(play):
    found = locks(play(UnlocksNoPrefix))

    assert found["behind its first half, aborted"] == PREFIX


def test_owners_of_slots_are_read_after_every_prefetch_and_while_storage_takes_nodes(play):
    balances = [one for one in play() if isinstance(one, PoolBalance)]

    assert {one.moment: one.is_final for one in balances} == {
        **dict.fromkeys(RIGHT, True),
        "storing": False,
        "evicting in storing": False,
        "stored": True,
        "evicted": True,
    }
    assert {one.free + (one.cached or 0) + one.held for one in balances} == {SLOTS}
