"""Ends of storage operations: abort, reset, detach, dead threads and errors."""

import pytest

from assembler.errors import DeadlockError
from assembler.owner import EvictParams
from tests.assembler.cache.cache_steps import (
    FULL,
    insert,
    match,
)
from tests.assembler.cache.storage_steps import (
    TOKENS,
    fetch,
    free_host,
    only_in_storage,
    settle,
    stored,
)
from traces.targets.common.runtime import open_device


def test_aborted_request_leaves_nothing_behind(device, blobs):
    cache = only_in_storage(device, blobs)
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
    cache = only_in_storage(open_device("cpu"), blobs)
    blobs.fail("get", KeyError("a mistake in a backend"))

    with pytest.raises(KeyError, match="a mistake"):
        fetch(cache, TOKENS)
    assert cache.ongoing_prefetch == {}
    assert free_host(cache)["kv"] == cache.host_pool_group.size
    blobs.errors.clear()
    assert fetch(cache, TOKENS)
