"""Prefetches of a cache: what storage has is fetched for later requests."""

import threading

import pytest
import torch

from assembler.errors import AssemblyError, StorageError
from assembler.owner import EvictParams
from tests.assembler.cache.cache_steps import (
    FULL,
    MAMBA,
    SWA,
    add,
    attach_storage,
    back_up,
    insert,
    match,
    plain,
)
from tests.assembler.cache.storage_steps import (
    TOKENS,
    fetch,
    free_host,
    only_in_storage,
    settle,
    stored,
)
from tests.assembler.small_models import PAGE
from tests.assembler.storage.stores import FailingBlobs
from traces.targets.common.runtime import open_device


def test_pages_behind_a_prefix_on_the_host_continue_its_keys(device, blobs):
    cache = only_in_storage(device, blobs)
    fetch(cache, TOKENS[:4])

    anchor = match(cache, TOKENS).last_host_node
    assert cache.query_storage_hit_length(anchor, TOKENS[4:]) == 8
    fetch(cache, TOKENS[4:], anchor=anchor)
    found = match(cache, TOKENS)
    cache.cache_controller.shutdown()

    assert found.host_hit_length == 12
    assert [len(node) for node in found.best_match_node.path()] == [4, 8]


def test_other_namespace_has_none_of_the_pages(blobs):
    _, cache = stored(open_device("cpu"), blobs)
    insert(cache, TOKENS)
    settle(cache)
    root = match(cache, [], "adapter").last_device_node

    assert fetch(cache, TOKENS, anchor=root)
    assert match(cache, TOKENS, "adapter").host_hit_length == 0
    # The host slots that were taken are free again: only the first node has some.
    assert free_host(cache)["kv"] == cache.host_pool_group.size - 12
    assert cache.query_storage_hit_length(root, TOKENS) == 0


@pytest.mark.parametrize("hit", [0, 1, 2])
def test_fewer_pages_than_the_threshold_are_not_fetched(blobs, hit):
    _, cache = stored(open_device("cpu"), blobs, threshold=2 * PAGE)
    insert(cache, TOKENS[: hit * PAGE])
    settle(cache)
    cache.reset()

    fetch(cache, TOKENS)

    assert match(cache, TOKENS).host_hit_length == (8 if hit == 2 else 0)
    assert not cache.prefetch_from_storage("r", match(cache, []).last_device_node, TOKENS[:7])


def test_nothing_is_fetched_behind_a_node_that_only_the_device_has(blobs):
    _, cache = stored(open_device("cpu"), blobs, policy="write_through_selective")
    node = insert(cache, TOKENS[:4]).last_device_node

    assert not cache.prefetch_from_storage("r", node, TOKENS[4:])
    back_up(cache, node)
    assert cache.prefetch_from_storage("r", node, TOKENS[4:])


def test_nothing_is_fetched_without_a_tier_or_beyond_its_rate_limit(blobs):
    _, cache = plain(open_device("cpu"))
    root = match(cache, []).last_device_node
    assert not cache.prefetch_from_storage("r", root, TOKENS)
    assert cache.query_storage_hit_length(root, TOKENS) == 0
    attach_storage(cache, blobs)
    cache.cache_controller.storage_tier.prefetch_capacity_limit = 8

    assert cache.prefetch_from_storage("r", root, TOKENS[:8])
    assert not cache.prefetch_from_storage("s", root, TOKENS)
    with pytest.raises(StorageError, match="request r: must be unique"):
        cache.prefetch_from_storage("r", root, TOKENS)
    assert cache.check_prefetch_progress("s")


def test_node_that_left_is_no_place_to_fetch_behind(blobs):
    _, cache = stored(open_device("cpu"), blobs)
    node = insert(cache, TOKENS[:4]).last_device_node
    settle(cache)
    cache.reset()

    with pytest.raises(AssemblyError, match="must be cached"):
        cache.prefetch_from_storage("r", node, TOKENS[4:])


def test_full_host_makes_room_for_a_prefetch(blobs):
    cache = only_in_storage(open_device("cpu"), blobs)
    other = add(cache, 8)
    settle(cache)
    cache.evict(EvictParams(num_tokens=8))
    held = cache.host_pool_group.alloc(cache.host_pool_group.available_size() - 4)

    fetch(cache, TOKENS)

    assert match(cache, TOKENS).host_hit_length == 12
    assert other.parent is None
    cache.host_pool_group.free(held)
    assert free_host(cache)["kv"] == cache.host_pool_group.size - 12


def test_host_without_room_for_all_pages_gets_the_first_ones(blobs):
    cache = only_in_storage(open_device("cpu"), blobs, threshold=2 * PAGE)
    group = cache.host_pool_group
    held = group.alloc(group.size - 8)

    fetch(cache, TOKENS)
    assert match(cache, TOKENS).host_hit_length == 8

    cache.evict_host(8, FULL)
    more = group.alloc(4)
    assert not fetch(cache, TOKENS)
    group.free(torch.cat([held, more]))
    assert group.available_size() == group.size


@pytest.mark.parametrize(("model", "component"), [("swa", SWA), ("mamba", MAMBA)])
def test_prefix_without_room_for_its_end_is_not_fetched(blobs, model, component):
    cache = only_in_storage(open_device("cpu"), blobs, model=model)
    pool = cache.host_pool_group.get_pool(component.value)
    held = pool.alloc(pool.available_size())

    assert not fetch(cache, TOKENS)
    assert free_host(cache)["kv"] == cache.host_pool_group.size
    pool.free(held)
    assert fetch(cache, TOKENS)


def test_pages_of_a_state_that_is_lost_are_not_inserted(blobs):
    cache = only_in_storage(open_device("cpu"), blobs, model="mamba")
    free = free_host(cache)
    storage = cache.cache_controller.storage_tier.storage
    fetched = storage.fetch_page
    storage.fetch_page = lambda pool, *page: pool != "mamba" and fetched(pool, *page)

    fetch(cache, TOKENS)

    assert match(cache, TOKENS).host_hit_length == 0
    assert list(cache.nodes()) == []
    assert free_host(cache) == free


def test_prefix_stays_while_pages_behind_it_are_fetched(blobs):
    cache = only_in_storage(open_device("cpu"), blobs)
    fetch(cache, TOKENS[:4])
    anchor = match(cache, TOKENS).last_host_node
    cache.prefetch_from_storage("r", anchor, TOKENS[4:])

    assert cache.evict_host(64, FULL) == 0
    while not cache.check_prefetch_progress("r"):
        pass
    assert match(cache, TOKENS).host_hit_length == 12
    assert cache.evict_host(64, FULL) == 12


def test_tokens_that_were_inserted_meanwhile_keep_their_slots(blobs):
    cache = only_in_storage(open_device("cpu"), blobs)
    cache.prefetch_from_storage("r", match(cache, []).last_device_node, TOKENS)
    node = insert(cache, TOKENS[:8]).last_device_node
    slots = node.device[FULL].tolist()

    while not cache.check_prefetch_progress("r"):
        pass
    found = match(cache, TOKENS)

    assert node.device[FULL].tolist() == slots
    assert (found.device_prefix_len, found.host_hit_length) == (8, 4)
    settle(cache)
    assert free_host(cache)["kv"] == cache.host_pool_group.size - 12


def test_window_that_arrives_late_completes_a_node_that_has_lost_it(blobs):
    _, cache = stored(open_device("cpu"), blobs, model="swa")
    insert(cache, TOKENS)
    settle(cache)
    cache.evict(EvictParams(num_tokens=12))
    cache.evict_host(12, SWA)
    assert match(cache, TOKENS).host_hit_length == 0

    fetch(cache, TOKENS)
    assert match(cache, TOKENS).host_hit_length == 12
    assert {
        name: cache.host_pool_group.get_pool(name).size - free
        for name, free in free_host(cache).items()
    } == {"kv": 12, "swa": 8}


@pytest.mark.parametrize(
    ("policy", "waits"), [("best_effort", 0), ("wait_complete", 1), ("timeout", 1)]
)
def test_policy_decides_whether_a_prefetch_is_waited_for(blobs, policy, waits):
    device = open_device("sim")
    cache = only_in_storage(device, blobs, prefetch_policy=policy, prefetch_timeout_base=60.0)
    tier = cache.cache_controller.storage_tier
    now = [0.0]
    tier.clock = lambda: now[0]
    cache.prefetch_from_storage("r", match(cache, []).last_device_node, TOKENS)

    polls = 0
    while not cache.check_prefetch_progress("r"):
        polls += 1
    cache.cache_controller.shutdown()

    assert (polls > 0) == bool(waits)
    if waits:
        assert match(cache, TOKENS).host_hit_length == 12


def test_late_prefetch_ends_with_what_has_arrived(blobs):
    _, cache = stored(open_device("cpu"), blobs, prefetch_policy="timeout")
    now = [0.0]
    cache.cache_controller.storage_tier.clock = lambda: now[0]
    held = HeldBlobs(blobs)
    cache.cache_controller.storage_tier.storage.blobs = held
    cache.prefetch_from_storage("r", match(cache, []).last_device_node, TOKENS)
    assert not cache.check_prefetch_progress("r")

    now[0] = 31.0
    held.go.set()
    assert cache.check_prefetch_progress("r")
    assert cache.ongoing_prefetch == {}


class HeldBlobs(FailingBlobs):
    """A store that answers when it is told to."""

    def __init__(self, other):
        super().__init__()
        self.kept = other.kept
        self.go = threading.Event()

    def exists(self, name):
        self.go.wait()
        return super().exists(name)
