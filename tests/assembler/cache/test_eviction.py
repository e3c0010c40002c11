"""Who leaves when space is short, on either side."""

import pytest
import torch

from assembler.device import get_device
from assembler.errors import AssemblyError
from assembler.names import PoolName
from assembler.owner import EvictParams, EvictResult
from tests.assembler.cache.cache_steps import (
    FULL,
    MAMBA,
    SWA,
    add,
    back_up,
    insert,
    load,
    plain,
    unified,
    use,
)
from tests.assembler.small_models import mamba_params, mha_pool, params_of, swa_params


def test_locked_node_is_not_evicted():
    _, cache = plain(get_device("cpu"))
    node = add(cache, 4)
    back_up(cache, node)
    lock = cache.inc_lock_ref(node)

    assert cache.evict(EvictParams(num_tokens=4)).num_tokens_evicted == 0
    cache.dec_lock_ref(node, lock.to_dec_params())
    assert cache.evict(EvictParams(num_tokens=4)).num_tokens_evicted == 4


@pytest.mark.parametrize("use_of", ["backup", "load"])
def test_node_that_was_copied_last_is_evicted_last(use_of):
    """Copies are uses: of two nodes the one that a copy was asked of stays, though it is older."""
    _, cache = plain(get_device("cpu"))
    old, new = add(cache, 4), add(cache, 4)
    if use_of == "backup":
        back_up(cache, old)
        back_up(cache, new)
        back_up(cache, old)
    else:
        assert cache.load_back(old) is not None

    assert cache.evict(EvictParams(num_tokens=4)).num_tokens_evicted == 4
    assert (old.is_evicted, new.is_evicted) == (False, True)


def test_full_host_evicts_its_oldest_node_and_tries_again():
    params = params_of(mha_pool(get_device("cpu")))
    cache = unified(params)
    old, new = add(cache, 4), add(cache, 4)
    back_up(cache, old)
    cache.evict(EvictParams(num_tokens=4))
    cache.host_pool_group.alloc(cache.host_pool_group.available_size())

    assert cache.write_backup(new)

    assert new.is_backed_up
    assert not old.is_backed_up
    with pytest.raises(AssemblyError, match=f"node {old.id}: must be cached"):
        cache.load_back(old)


def test_host_that_stays_full_leaves_the_node_unlocked():
    _, cache = plain(get_device("cpu"))
    node = add(cache, 4)
    cache.host_pool_group.alloc(cache.host_pool_group.available_size())

    assert not cache.write_backup(node)
    assert (node.lock_ref, node.is_backed_up) == (0, False)


def test_full_device_evicts_and_tries_again():
    params, cache = plain(get_device("cpu"))
    wanted, other = add(cache, 4), add(cache, 4)
    for node in (wanted, other):
        back_up(cache, node)
    cache.evict(EvictParams(num_tokens=4))
    allocator = params.token_to_kv_pool_allocator
    allocator.alloc(allocator.available_size())

    assert load(cache, wanted) is not None

    assert other.is_evicted
    assert not wanted.is_evicted


def test_device_that_stays_full_leaves_the_node_where_it_was():
    params, cache = plain(get_device("cpu"))
    node = add(cache, 4)
    back_up(cache, node)
    cache.evict(EvictParams(num_tokens=4))
    allocator = params.token_to_kv_pool_allocator
    allocator.alloc(allocator.available_size())

    assert cache.load_back(node) is None
    assert (node.lock_ref, node.is_evicted, node.is_backed_up) == (0, True, True)


def test_full_state_pool_on_the_device_evicts_states_alone():
    params = mamba_params(get_device("cpu"), state_num=2)
    cache = unified(params)
    wanted, other = add(cache, 4), add(cache, 4)
    for node in (wanted, other):
        back_up(cache, node)
    cache.evict(EvictParams(num_tokens=4))
    params.req_to_token_pool.mamba_allocator.alloc(1)

    load(cache, wanted)

    assert sorted(other.device) == [FULL]
    assert sorted(wanted.device) == [FULL, MAMBA]


def test_full_window_pool_on_the_device_evicts_windows_alone():
    params = swa_params(get_device("cpu"), size_swa=8)
    cache = unified(params)
    wanted, other = add(cache, 4), add(cache, 4)
    for node in (wanted, other):
        back_up(cache, node)
    cache.evict(EvictParams(num_tokens=4))
    allocator = params.token_to_kv_pool_allocator
    allocator.swa_attn_allocator.alloc(4)

    load(cache, wanted)

    assert sorted(other.device) == [FULL]
    assert allocator.full_to_swa(other.device[FULL]).tolist() == [0, 0, 0, 0]
    assert torch.equal(allocator.full_to_swa(wanted.device[FULL]), wanted.device[SWA])


def test_lost_state_of_a_resident_node_is_loaded_without_its_tokens():
    params = mamba_params(get_device("cpu"))
    cache = unified(params)
    cache.load_back_threshold = 256
    node = add(cache, 4)
    pool = params.req_to_token_pool.mamba_pool
    pool.temporal[:, node.device[MAMBA]] = 7.0
    back_up(cache, node)
    assert cache.evict(EvictParams(mamba_num=1)) == EvictResult(0, 0, 1)
    tokens = node.device[FULL]

    assert load(cache, node) is tokens
    assert bool(pool.temporal[:, node.device[MAMBA]].eq(7.0).all())


def test_full_state_pool_on_the_host_evicts_whole_backups():
    params = mamba_params(get_device("cpu"))
    cache = unified(params)
    old, new = add(cache, 4), add(cache, 4)
    back_up(cache, old)
    states = cache.host_pool_group.get_pool(PoolName.MAMBA)
    states.alloc(states.available_size())

    assert cache.write_backup(new)

    assert old.host == {}
    assert not old.is_evicted


def test_node_without_backup_is_lost_by_eviction_after_those_with_one():
    _, cache = plain(get_device("cpu"))
    bare, saved = add(cache, 4), add(cache, 4)
    back_up(cache, saved)

    cache.evict(EvictParams(num_tokens=4))
    assert (saved.is_evicted, bare.is_evicted) == (True, False)

    cache.evict(EvictParams(num_tokens=4))
    with pytest.raises(AssemblyError, match=f"node {bare.id}: must be cached"):
        cache.write_backup(bare)


def test_write_back_saves_a_node_when_it_is_evicted(delayed):
    _, cache = plain(delayed, hicache_write_policy="write_back")
    node = add(cache, 4)
    for _ in range(3):
        use(cache, node)
    assert not node.is_backed_up

    cache.evict(EvictParams(num_tokens=4))

    assert (node.is_evicted, node.is_backed_up, node.lock_ref) == (True, True, 0)


@pytest.mark.parametrize(("policy", "hits"), [("write_through", 1), ("write_through_selective", 2)])
def test_write_through_saves_a_node_at_its_threshold(policy, hits):
    _, cache = plain(get_device("cpu"), hicache_write_policy=policy)
    tokens = [1, 2, 3, 4]
    for _ in range(hits - 1):
        assert not insert(cache, tokens).last_device_node.is_backed_up

    assert insert(cache, tokens).last_device_node.is_backed_up
    assert cache.write_through_threshold == hits


def test_eviction_goes_by_last_use():
    _, cache = plain(get_device("cpu"))
    first, second = add(cache, 4), add(cache, 4)
    for node in (first, second):
        back_up(cache, node)
    use(cache, first)

    cache.evict(EvictParams(num_tokens=4))

    assert (first.is_evicted, second.is_evicted) == (False, True)


def test_host_eviction_keeps_nodes_that_the_device_has():
    _, cache = plain(get_device("cpu"))
    resident = add(cache, 4)
    back_up(cache, resident)

    assert cache.evict_host(1, FULL) == 4

    assert cache.host_pool_group.available_size() == cache.host_pool_group.size
    assert not resident.is_evicted
    assert cache.write_backup(resident)
