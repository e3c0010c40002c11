"""Prefixes that requests share: matches, splits, locks, loads of a whole path, and evictions."""

import pytest
import torch

from assembler.cache.keys import RadixKey, shared_bytes
from assembler.device import get_device
from assembler.errors import AssemblyError
from assembler.owner import EvictParams
from tests.assembler.cache.cache_steps import (
    FULL,
    MAMBA,
    SWA,
    back_up,
    insert,
    load,
    match,
    plain,
    unified,
)
from tests.assembler.small_models import mamba_params, swa_params

FIRST = [1, 2, 3, 4, 5, 6, 7, 8]
SECOND = [1, 2, 3, 4, 50, 60, 70, 80]


def lengths(node):
    return [len(part) for part in node.path()]


def test_match_ends_at_a_whole_page():
    _, cache = plain(get_device("cpu"))
    insert(cache, [*FIRST, 9])

    assert match(cache, FIRST).device_prefix_len == 8
    assert match(cache, [*FIRST, 9, 10]).device_prefix_len == 8
    assert match(cache, FIRST[:7]).device_prefix_len == 4
    assert match(cache, [1, 2, 3, 40]).device_prefix_len == 0


def test_requests_share_the_pages_they_have_in_common():
    params, cache = plain(get_device("cpu"))
    first = insert(cache, FIRST)
    slots = cache.path_device_indices(first.last_device_node)

    second = insert(cache, SECOND)

    assert (first.prefix_len, second.prefix_len) == (0, 4)
    assert lengths(first.last_device_node) == lengths(second.last_device_node) == [4, 4]
    assert first.last_device_node.parent is second.last_device_node.parent
    assert torch.equal(cache.path_device_indices(second.last_device_node)[:4], slots[:4])
    # Four slots of the second request hold what was cached already.
    assert params.token_to_kv_pool_allocator.available_size() == 64 - 12


def test_slots_of_a_match_are_not_freed_again():
    params, cache = plain(get_device("cpu"))
    allocator = params.token_to_kv_pool_allocator
    node = insert(cache, FIRST).last_device_node
    own = cache.path_device_indices(match(cache, SECOND).last_device_node)

    value = torch.cat([own, allocator.alloc(4)])
    assert insert(cache, SECOND, value=value, prev_prefix_len=4).prefix_len == 4

    assert torch.equal(cache.path_device_indices(node)[:4], own)
    assert allocator.available_size() == 64 - 12


def test_slots_that_the_cache_does_not_have_raise():
    _, cache = plain(get_device("cpu"))
    insert(cache, FIRST)
    message = (
        "insert: slots that are the cache's already must be those of cached tokens; "
        "expected at most 4 tokens, got 8"
    )

    with pytest.raises(AssemblyError, match=message):
        insert(cache, SECOND, prev_prefix_len=8)


def test_too_few_slots_raise():
    _, cache = plain(get_device("cpu"))
    with pytest.raises(
        AssemblyError, match="every token must have a slot; expected 8 slots, got 4"
    ):
        insert(cache, FIRST, value=torch.arange(4, 8))


def test_namespaces_do_not_share():
    _, cache = plain(get_device("cpu"))
    insert(cache, FIRST)

    assert match(cache, FIRST, "adapter").device_prefix_len == 0
    assert match(cache, FIRST).device_prefix_len == 8


def test_lock_keeps_both_halves_of_a_node_that_is_split_later():
    _, cache = plain(get_device("cpu"))
    node = insert(cache, FIRST).last_device_node
    lock = cache.inc_lock_ref(node)

    match(cache, SECOND)
    assert [part.lock_ref for part in node.path()] == [1, 1]
    assert (cache.evictable_size(), cache.protected_size()) == (0, 8)
    assert cache.evict(EvictParams(num_tokens=8)).num_tokens_evicted == 0

    cache.dec_lock_ref(node, lock.to_dec_params())
    assert [part.lock_ref for part in node.path()] == [0, 0]
    assert (cache.evictable_size(), cache.protected_size()) == (8, 0)
    assert cache.evict(EvictParams(num_tokens=8)).num_tokens_evicted == 8


def test_backup_of_a_node_that_is_split_meanwhile_unlocks_both_halves(delayed):
    _, cache = plain(delayed)
    node = insert(cache, FIRST).last_device_node
    cache.write_backup(node)

    match(cache, SECOND)
    assert [part.lock_ref for part in node.path()] == [1, 1]
    assert [part.is_backed_up for part in node.path()] == [True, True]

    cache.writing_check(write_back=True)
    assert [part.lock_ref for part in node.path()] == [0, 0]


def test_load_brings_back_a_whole_path():
    _, cache = plain(get_device("cpu"))
    first = insert(cache, FIRST).last_device_node
    second = insert(cache, SECOND).last_device_node
    for node in (first.parent, first, second):
        back_up(cache, node)
    cache.evict(EvictParams(num_tokens=12))
    found = match(cache, SECOND)
    assert (found.device_prefix_len, found.host_hit_length) == (0, 8)

    assert len(load(cache, found.best_match_node)) == 8

    assert (first.is_evicted, second.is_evicted, second.parent.is_evicted) == (True, False, False)
    assert match(cache, FIRST).host_hit_length == 4


def test_failed_load_is_taken_back_from_a_node_that_was_split_meanwhile(monkeypatch):
    params, cache = plain(get_device("cpu"))
    node = insert(cache, FIRST).last_device_node
    back_up(cache, node)
    cache.evict(EvictParams(num_tokens=8))
    cache.load_back(node)
    match(cache, SECOND)

    def fail(**arguments):
        raise RuntimeError("copy failed")

    host = cache.host_pool_group.anchor_entry.host_pool
    monkeypatch.setattr(host, "load_to_device_per_layer", fail)
    with pytest.raises(RuntimeError, match="copy failed"):
        cache.ready_to_load()

    assert [(part.is_evicted, part.lock_ref) for part in node.path()] == [(True, 0), (True, 0)]
    assert params.token_to_kv_pool_allocator.available_size() == 64


def test_node_is_backed_up_behind_its_parent_only():
    _, cache = plain(get_device("cpu"))
    node = insert(cache, FIRST).last_device_node
    match(cache, SECOND)

    assert not cache.write_backup(node)
    assert cache.write_backup(node.parent)
    assert cache.write_backup(node)


def test_prefixes_are_evicted_from_their_ends():
    _, cache = plain(get_device("cpu"))
    insert(cache, FIRST[:4])
    end = insert(cache, FIRST).last_device_node
    middle = end.parent

    cache.evict(EvictParams(num_tokens=1))
    assert match(cache, FIRST).device_prefix_len == 4
    assert match(cache, FIRST).last_device_node is middle


def test_host_only_tokens_get_the_slots_of_an_insertion():
    params, cache = plain(get_device("cpu"))
    node = insert(cache, FIRST).last_device_node
    back_up(cache, node)
    cache.evict(EvictParams(num_tokens=8))
    slots = params.token_to_kv_pool_allocator.alloc(8)

    assert insert(cache, FIRST, value=slots).prefix_len == 8

    assert torch.equal(node.device[FULL], slots)
    assert node.is_backed_up


@pytest.mark.parametrize(("without_window", "num"), [(0, 8), (4, 0)])
def test_host_only_tokens_get_the_windows_of_an_insertion_unless_a_load_brings_more(
    without_window, num
):
    params = swa_params(get_device("cpu"))
    cache, allocator = unified(params), params.token_to_kv_pool_allocator
    free = allocator.window.swa_attn_allocator.available_size()
    node = insert(cache, FIRST).last_device_node
    back_up(cache, node)
    cache.evict(EvictParams(num_tokens=8))

    slots = allocator.alloc(8)
    allocator.free_swa(slots[:without_window])
    insert(cache, FIRST, value=slots, swa_evicted_seqlen=without_window)

    assert len(node.device.get(SWA, ())) == num
    assert len(node.host[SWA]) == 8
    assert allocator.window.swa_attn_allocator.available_size() == free - num


def test_state_ends_a_match_where_it_is():
    cache = unified(mamba_params(get_device("cpu")))
    insert(cache, FIRST)

    assert match(cache, FIRST).device_prefix_len == 8
    assert match(cache, [*FIRST[:4], 9, 9, 9, 9]).device_prefix_len == 0
    assert insert(cache, FIRST).mamba_exist


def test_state_comes_back_without_its_tokens():
    params = mamba_params(get_device("cpu"))
    cache = unified(params)
    node = insert(cache, FIRST).last_device_node
    back_up(cache, node)
    cache.evict(EvictParams(mamba_num=1))
    found = match(cache, FIRST)
    assert (found.device_prefix_len, found.host_hit_length) == (0, 8)

    load(cache, found.best_match_node)

    assert MAMBA in node.device
    assert match(cache, FIRST).device_prefix_len == 8


def test_load_brings_back_the_windows_that_the_last_token_sees():
    params = swa_params(get_device("cpu"), sliding_window_size=4)
    cache = unified(params)
    insert(cache, FIRST[:4])
    end = insert(cache, FIRST).last_device_node
    for node in end.path():
        back_up(cache, node)
    cache.evict(EvictParams(num_tokens=8))

    load(cache, end)

    assert [SWA in node.device for node in end.path()] == [False, True]
    assert match(cache, FIRST).device_prefix_len == 8
    # The window of the first page is on the host alone.
    found = match(cache, FIRST[:4])
    assert (found.device_prefix_len, found.host_hit_length) == (0, 4)


def test_lock_keeps_the_windows_that_the_last_token_sees():
    cache = unified(swa_params(get_device("cpu"), sliding_window_size=4))
    insert(cache, FIRST[:4])
    end = insert(cache, FIRST).last_device_node
    # The first page was inserted twice, and so backed up.
    cache.writing_check(write_back=True)
    lock = cache.inc_lock_ref(end)

    assert [node.window_lock_ref for node in end.path()] == [0, 1]
    assert cache.evict(EvictParams(swa_num_tokens=8)).swa_num_tokens_evicted == 4
    assert [SWA in node.device for node in end.path()] == [False, True]

    cache.dec_lock_ref(end, lock.to_dec_params())
    assert [node.window_lock_ref for node in end.path()] == [0, 0]


@pytest.mark.parametrize(
    ("tokens", "pages"), [([1, 2, 3, 4], 2), ([1, 2, 3, 9], 1), ([1, 2], 1), ([1, 2, 3, 4, 5], 2)]
)
def test_shared_pages_are_counted_from_the_first(tokens, pages):
    key = RadixKey([1, 2, 3, 4]).data
    data = RadixKey([7, *tokens]).data

    assert shared_bytes(key, data, start=8, page_bytes=16) == 16 * pages
