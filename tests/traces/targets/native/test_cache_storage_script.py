"""Scenarios whose cache stores and fetches pages: what comes back, and what faults change."""

import pytest

from assembler.cache.arrival import Arrival
from assembler.cache.storage_moves import StorageMoves
from assembler.cache.transfers import WritingNodes
from assembler.cache.tree import RadixTree
from assembler.storage.paged import PagedStorage
from traces.schema.life import NodeLocks, PoolBalance
from traces.schema.model import RoundTrip
from traces.schema.storage_records import StorageAccess, StorageMatch
from traces.targets.native.run import run_scenario
from traces.targets.native.scenarios import storage_scenarios

TREES = {one.model: one for one in storage_scenarios() if one.tier == "tree"}
PAGES = {"llama3_8b": 16, "dsv32_fp8": 64, "gpt_oss": 16, "qwen3_next": 16}


def run(model, device="cpu"):
    return run_scenario(TREES[model], device=device)


def arrived(recording, page):
    digests = [one for one in recording.trace.digests if isinstance(one, StorageMatch)]
    return {one.sequence: one.arrived // page for one in digests}


def round_trips(recording):
    return {one.pool: one.equal for one in recording.trace.digests if isinstance(one, RoundTrip)}


def balances(recording, moment, owner="host.KV"):
    return [
        (one.free, one.cached, one.held)
        for one in recording.trace.events
        if isinstance(one, PoolBalance) and (one.moment, one.owner) == (moment, owner)
    ]


@pytest.mark.parametrize("model", TREES)
def test_what_was_stored_is_fetched_and_loaded_with_its_bytes(model):
    sim, cpu = run(model, "sim"), run(model)

    # A state belongs to the end of a request: no prefix that ends elsewhere can be restored.
    prefix = 0 if model == "qwen3_next" else 1
    assert arrived(cpu, PAGES[model]) == {"prefix": prefix, "trunk": 2, "branch": 2}
    assert set(round_trips(cpu).values()) == {True}
    assert sim.trace == cpu.trace


def test_slots_and_locks_are_recorded_while_pages_move():
    recording = run("llama3_8b")

    assert balances(recording, "evicting_in_store") == [(496, 48, 0)]
    assert balances(recording, "fetching") == [(528, 0, 16)]
    assert balances(recording, "fetching_trunk") == [(512, 16, 16)]
    assert balances(recording, "aborted") == [(544, 0, 0)]
    assert balances(recording, "detached") == [(528, 16, 0)]
    locks = [one for one in recording.trace.events if isinstance(one, NodeLocks)]
    assert {(one.device, one.host) for one in locks} == {(0, 1), (0, 2), (0, 3)}
    assert not {one.moment for one in locks} & {"stored", "fetched", "aborted", "detached"}


def test_pages_of_a_namespace_have_keys_of_their_own(monkeypatch):
    own = {one.key for one in run("llama3_8b").trace.events if isinstance(one, StorageAccess)}
    monkeypatch.setattr(RadixTree, "namespace_of", lambda self, node: None)
    others = run("llama3_8b")

    assert not own & {one.key for one in others.trace.events if isinstance(one, StorageAccess)}


def without_half(patch):
    patch.setattr(WritingNodes, "note_split", lambda self, upper, lower: None)


def without_host_locks(patch):
    patch.setattr(RadixTree, "lock_host", lambda self, node: None)


def with_pages_of_another_node(patch):
    fetch = PagedStorage.fetch_page

    def fetch_into_the_next_slots(self, pool, page_hash, slot):
        return fetch(self, pool, page_hash, slot + self.pools[pool].page_size)

    patch.setattr(PagedStorage, "fetch_page", fetch_into_the_next_slots)


def without_pages_of_aborted_requests(patch):
    patch.setattr(StorageMoves, "_give_back", lambda self, host: None)


def with_slots_that_are_kept_twice(patch):
    insert = Arrival.insert

    def insert_and_keep(self, tree, group):
        insert(self, tree, group)
        group.alloc(group.page_size)

    patch.setattr(Arrival, "insert", insert_and_keep)


@pytest.mark.parametrize(
    "plant",
    [
        without_half,
        without_host_locks,
        with_pages_of_another_node,
        without_pages_of_aborted_requests,
        with_slots_that_are_kept_twice,
    ],
)
def test_fault_of_the_caches_storage_changes_the_trace(monkeypatch, plant):
    before = run("llama3_8b").trace
    assert run("llama3_8b").trace == before

    plant(monkeypatch)
    assert run("llama3_8b").trace != before
