"""The storage tier of a cache: what reaches the host is stored."""

import pytest
import torch

from assembler.cache.keys import RadixKey
from assembler.cache.prefixes import InsertParams
from assembler.owner import EvictParams
from tests.assembler.cache.cache_steps import (
    FULL,
    MODELS,
    back_up,
    device_pools,
    insert,
    load,
    match,
)
from tests.assembler.cache.storage_steps import TOKENS, fetch, settle, stored
from tests.assembler.small_models import PAGE, buffers_of, fill, poison
from traces.targets.common.runtime import open_device


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
