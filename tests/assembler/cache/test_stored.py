"""The storage tier of a cache: what reaches the host is stored, and fetched for later requests."""

import threading

import pytest
import torch

from assembler.cache.keys import RadixKey
from assembler.cache.prefixes import InsertParams
from assembler.errors import AssemblyError, DeadlockError, StorageError
from assembler.owner import EvictParams
from assembler.storage.files import FOLDER_VARIABLE
from tests.assembler.cache.cache_steps import (
    FULL,
    MAMBA,
    MODELS,
    SWA,
    add,
    attach_storage,
    back_up,
    device_pools,
    insert,
    load,
    match,
    plain,
    unified,
)
from tests.assembler.small_models import PAGE, buffers_of, fill, poison
from tests.assembler.storage.stores import FailingBlobs
from traces.targets.common.runtime import open_device

TOKENS = [*range(1, 13)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))


@pytest.fixture(params=["cpu", "sim"])
def device(request):
    return open_device(request.param)


@pytest.fixture
def blobs():
    return FailingBlobs()


def stored(device, blobs, *, model="mha", policy="write_through", **options):
    """Return the parameters and the cache of a model, over a store of named bytes."""
    params = MODELS[model](device)
    cache = unified(params, hicache_write_policy=policy)
    attach_storage(cache, blobs, **options)
    return params, cache


def settle(cache):
    while cache.ongoing_write_through or cache.ongoing_backup:
        cache.check_hicache_events()


def fetch(cache, tokens, *, anchor=None, request="r"):
    """Fetch tokens behind a node, or behind the root, and wait for them."""
    anchor = anchor or match(cache, []).last_device_node
    is_started = cache.prefetch_from_storage(request, anchor, tokens)
    while not cache.check_prefetch_progress(request):
        pass
    return is_started


def free_host(cache):
    return {entry.name: entry.host_pool.available_size() for entry in cache.host_pool_group.entries}


def rows_of(params, node):
    """Return the device rows of a node by plane, layer and component, copied."""
    found = {}
    for number, (pool, component) in enumerate(device_pools(params)):
        for place, buffer in buffers_of(pool).items():
            unit = PAGE if place[0] == "index_k" else 1
            # Of a window, only what the last token sees is fetched.
            slots = node.device[component][-8:]
            rows = slots[unit - 1 :: unit] // unit
            found[number, place] = buffer.view(torch.uint8).view(len(buffer), -1)[rows].clone()
    return found


@pytest.mark.parametrize("model", MODELS)
def test_what_was_stored_comes_back_to_an_empty_cache(device, blobs, model):
    params, cache = stored(device, blobs, model=model)
    for number, (pool, _) in enumerate(device_pools(params)):
        fill(pool, number)
    node = insert(cache, TOKENS).last_device_node
    device.synchronize()
    before = rows_of(params, node)
    settle(cache)
    cache.reset()
    for pool, _ in device_pools(params):
        poison(pool)

    assert match(cache, TOKENS).host_hit_length == 0
    assert fetch(cache, TOKENS)
    found = match(cache, TOKENS)
    load(cache, found.best_match_node)
    device.synchronize()
    cache.cache_controller.shutdown()

    assert (found.device_prefix_len, found.host_hit_length) == (0, 12)
    after = rows_of(params, found.best_match_node)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[place], before[place]) for place in before)


def test_node_is_stored_once_its_host_copy_is_finished(blobs):
    _, cache = stored(open_device("cpu"), blobs)
    insert(cache, TOKENS)
    assert (len(cache.ongoing_write_through), len(cache.ongoing_backup)) == (1, 0)

    cache.writing_check()
    assert len(cache.ongoing_backup) == 1
    settle(cache)

    assert len(blobs.kept) == 3
    assert cache.query_storage_hit_length(match(cache, []).last_device_node, TOKENS) == 12


def test_pages_behind_a_prefix_on_the_host_continue_its_keys(device, blobs):
    _, cache = stored(device, blobs)
    insert(cache, TOKENS)
    settle(cache)
    cache.reset()
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
    _, cache = stored(open_device("cpu"), blobs)
    insert(cache, TOKENS)
    settle(cache)
    cache.reset()
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
    _, cache = stored(open_device("cpu"), blobs, threshold=2 * PAGE)
    insert(cache, TOKENS)
    settle(cache)
    cache.reset()
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
    _, cache = stored(open_device("cpu"), blobs, model=model)
    insert(cache, TOKENS)
    settle(cache)
    cache.reset()
    pool = cache.host_pool_group.get_pool(component.value)
    held = pool.alloc(pool.available_size())

    assert not fetch(cache, TOKENS)
    assert free_host(cache)["kv"] == cache.host_pool_group.size
    pool.free(held)
    assert fetch(cache, TOKENS)


def test_pages_of_a_state_that_is_lost_are_not_inserted(blobs):
    _, cache = stored(open_device("cpu"), blobs, model="mamba")
    insert(cache, TOKENS)
    settle(cache)
    cache.reset()
    free = free_host(cache)
    storage = cache.cache_controller.storage_tier.storage
    fetched = storage.fetch_page
    storage.fetch_page = lambda pool, *page: pool != "mamba" and fetched(pool, *page)

    fetch(cache, TOKENS)

    assert match(cache, TOKENS).host_hit_length == 0
    assert list(cache.nodes()) == []
    assert free_host(cache) == free


def test_aborted_request_leaves_nothing_behind(device, blobs):
    _, cache = stored(device, blobs)
    insert(cache, TOKENS)
    settle(cache)
    cache.reset()
    cache.prefetch_from_storage("r", match(cache, []).last_device_node, TOKENS)

    assert cache.release_aborted_request("r")
    assert cache.release_aborted_request("r")
    cache.cache_controller.shutdown()

    assert cache.ongoing_prefetch == {}
    assert match(cache, TOKENS).host_hit_length == 0
    assert free_host(cache)["kv"] == cache.host_pool_group.size


@pytest.mark.parametrize("end", ["reset", "detach", "detach by the controller"])
def test_operations_under_way_end_with_the_cache_or_the_tier(device, blobs, end):
    _, cache = stored(device, blobs)
    node = insert(cache, TOKENS).last_device_node
    cache.writing_check(write_back=True)
    cache.prefetch_from_storage("r", node, [*range(20, 32)])
    assert (len(cache.ongoing_backup), len(cache.ongoing_prefetch)) == (1, 1)
    assert node.host_lock_ref == 2

    if end == "reset":
        cache.reset()
    elif end == "detach":
        cache.detach_storage_backend()
    else:
        cache.cache_controller.detach_storage_backend()
    assert cache.check_prefetch_progress("r")
    cache.check_hicache_events()

    assert (cache.ongoing_backup, cache.ongoing_prefetch) == ({}, {})
    kept = 0 if end == "reset" else 12
    assert free_host(cache)["kv"] == cache.host_pool_group.size - kept
    assert node.host_lock_ref == (2 if end == "reset" else 0)
    assert cache.evict(EvictParams(num_tokens=12)).num_tokens_evicted == kept
    assert cache.evict_host(12, FULL) == kept
    cache.cache_controller.shutdown()


def test_both_halves_of_a_node_that_was_split_on_its_way_are_stored(device, blobs):
    _, cache = stored(device, blobs)
    insert(cache, TOKENS)
    match(cache, TOKENS[:4])
    assert [len(node) for node in cache.nodes()] == [4, 8]
    settle(cache)
    assert len(blobs.kept) == 3

    insert(cache, [*range(30, 42)])
    cache.writing_check(write_back=True)
    match(cache, [*range(30, 34)])
    settle(cache)
    cache.cache_controller.shutdown()

    assert [node.host_lock_ref for node in cache.nodes()] == [0, 0, 0, 0]
    assert len(blobs.kept) == 6


def test_host_slots_stay_while_they_are_stored_and_device_slots_may_go(blobs):
    _, cache = stored(open_device("cpu"), blobs)
    node = insert(cache, TOKENS).last_device_node
    cache.writing_check()

    assert cache.evict(EvictParams(num_tokens=12)).num_tokens_evicted == 12
    assert cache.evict_host(12, FULL) == 0
    assert node.is_backed_up
    settle(cache)
    assert cache.evict_host(12, FULL) == 12


def test_prefix_stays_while_pages_behind_it_are_fetched(blobs):
    _, cache = stored(open_device("cpu"), blobs)
    insert(cache, TOKENS)
    settle(cache)
    cache.reset()
    fetch(cache, TOKENS[:4])
    anchor = match(cache, TOKENS).last_host_node
    cache.prefetch_from_storage("r", anchor, TOKENS[4:])

    assert cache.evict_host(64, FULL) == 0
    while not cache.check_prefetch_progress("r"):
        pass
    assert match(cache, TOKENS).host_hit_length == 12
    assert cache.evict_host(64, FULL) == 12


def test_parent_that_only_the_device_has_is_not_lost_while_its_child_is_stored(blobs):
    """With the policy ``write_back`` a node may be backed up before its parent."""
    _, cache = stored(open_device("cpu"), blobs, policy="write_back")
    parent = insert(cache, TOKENS[:4]).last_device_node
    child = insert(cache, TOKENS).last_device_node
    group = cache.host_pool_group
    back_up(cache, child)
    cache.evict(EvictParams(num_tokens=8))
    held = group.alloc(group.available_size())

    cache.evict(EvictParams(num_tokens=4))
    assert (parent.is_evicted, child.is_backed_up) == (False, True)
    settle(cache)
    cache.evict(EvictParams(num_tokens=4))
    assert (parent.is_evicted, child.parent) == (True, None)
    group.free(held)


def test_tokens_that_were_inserted_meanwhile_keep_their_slots(blobs):
    _, cache = stored(open_device("cpu"), blobs)
    insert(cache, TOKENS)
    settle(cache)
    cache.reset()
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


def test_component_that_came_later_is_stored_too(blobs):
    params, cache = stored(open_device("cpu"), blobs, model="mamba")
    node = insert(cache, TOKENS, mamba_value=None).last_device_node
    cache.writing_check()
    state = params.req_to_token_pool.mamba_allocator.alloc(1)
    own = cache.path_device_indices(node)
    key = RadixKey(TOKENS)
    cache.insert(InsertParams(key=key, value=own, mamba_value=state, prev_prefix_len=12))
    cache.writing_check()
    settle(cache)

    cache.reset()
    fetch(cache, TOKENS)
    assert match(cache, TOKENS).host_hit_length == 12


def test_tokens_that_have_no_key_are_not_stored(blobs, caplog):
    _, cache = stored(open_device("cpu"), blobs)
    insert(cache, [1 << 40] * 4)
    settle(cache)

    assert blobs.kept == {}
    assert "is not stored: token id: must fit in four bytes" in caplog.text


def test_dead_thread_of_storage_is_an_error_and_leaves_no_lock(device, blobs):
    _, cache = stored(device, blobs)
    blobs.fail("exists", SystemExit(3))
    insert(cache, TOKENS)
    with pytest.raises(SystemExit):
        settle(cache)

    cache.reset()
    blobs.errors.clear()
    insert(cache, TOKENS)
    settle(cache)
    cache.cache_controller.shutdown()
    assert len(blobs.kept) == 3
    assert free_host(cache)["kv"] == cache.host_pool_group.size - 12


def test_reset_and_detach_are_complete_where_a_thread_had_died(blobs):
    for end in ("reset", "detach_storage_backend"):
        _, cache = stored(open_device("cpu"), blobs)
        node = insert(cache, TOKENS).last_device_node
        settle(cache)
        blobs.fail("exists", SystemExit(3))
        cache.prefetch_from_storage("r", node, TOKENS)
        with pytest.raises(DeadlockError):
            cache.release_aborted_request("r")
        with pytest.raises(SystemExit):
            getattr(cache, end)()
        blobs.errors.clear()

        assert cache.ongoing_prefetch == {}
        assert node.host_lock_ref == (1 if end == "reset" else 0)
        kept = 0 if end == "reset" else 12
        assert free_host(cache)["kv"] == cache.host_pool_group.size - kept


def test_dead_thread_of_prefetches_is_not_waited_for(device, blobs):
    _, cache = stored(device, blobs)
    blobs.fail("exists", SystemExit(3))

    with pytest.raises(SystemExit):
        fetch(cache, TOKENS)
    cache.reset()
    assert cache.ongoing_prefetch == {}
    cache.cache_controller.shutdown()


def test_prefetch_that_ends_with_an_error_gives_its_slots_back(blobs):
    _, cache = stored(open_device("cpu"), blobs)
    insert(cache, TOKENS)
    settle(cache)
    cache.reset()
    blobs.fail("get", KeyError("a mistake in a backend"))

    with pytest.raises(KeyError, match="a mistake"):
        fetch(cache, TOKENS)
    assert cache.ongoing_prefetch == {}
    assert free_host(cache)["kv"] == cache.host_pool_group.size
    blobs.errors.clear()
    assert fetch(cache, TOKENS)


@pytest.mark.parametrize(
    ("policy", "waits"), [("best_effort", 0), ("wait_complete", 1), ("timeout", 1)]
)
def test_policy_decides_whether_a_prefetch_is_waited_for(blobs, policy, waits):
    device = open_device("sim")
    _, cache = stored(device, blobs, prefetch_policy=policy, prefetch_timeout_base=60.0)
    insert(cache, TOKENS)
    settle(cache)
    cache.reset()
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
