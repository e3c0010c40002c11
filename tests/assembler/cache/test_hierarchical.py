import pytest
import torch

from assembler.cache.prefixes import DecLockRefParams
from assembler.cache.unified import UnifiedRadixCache
from assembler.device import get_device
from assembler.errors import AssemblyError
from assembler.host_pools.group import SidecarPoolSpec
from assembler.names import PoolName
from assembler.owner import EvictParams, EvictResult
from tests.assembler.cache.cache_steps import (
    FULL,
    MAMBA,
    MODELS,
    SWA,
    add,
    back_up,
    device_pools,
    insert,
    load,
    plain,
    unified,
)
from tests.assembler.small_models import (
    fill,
    mamba_params,
    mha_pool,
    nsa_pool,
    params_of,
    poison,
    snapshot,
    swa_params,
)
from tests.assembler.stacks.builder_calls import kv_only, shared_anchor


@pytest.mark.parametrize("backend", ["kernel", "direct"])
@pytest.mark.parametrize("model", MODELS)
def test_evicted_node_comes_back_whole_in_other_slots(delayed, model, backend):
    """Scenario: copies run as late as allowed; the device is poisoned while the node is away."""
    params = MODELS[model](delayed)
    cache = unified(params, hicache_io_backend=backend)
    node, kept = add(cache, 8), add(cache, 4)
    delayed.synchronize()
    for pool, _ in device_pools(params):
        fill(pool, 9)
    written = [snapshot(pool) for pool, _ in device_pools(params)]
    before = dict(node.device)

    back_up(cache, node)
    cache.evict(EvictParams(num_tokens=8))
    assert node.is_evicted
    assert not kept.is_evicted
    for pool, _ in device_pools(params):
        poison(pool)
    load(cache, node)

    delayed.synchronize()
    for (pool, component), old in zip(device_pools(params), written, strict=True):
        for key, rows in snapshot(pool).items():
            unit = 4 if key[0] == "index_k" else 1
            source, target = (
                sorted({slot // unit for slot in side[component].tolist()})
                for side in (before, node.device)
            )
            assert not set(source) & set(target)
            assert torch.equal(rows[target], old[key][source])


def test_state_and_window_of_a_loaded_node_are_mapped_again():
    params = swa_params(get_device("cpu"))
    cache = unified(params)
    allocator = params.token_to_kv_pool_allocator
    node = add(cache, 8)
    back_up(cache, node)
    cache.evict(EvictParams(num_tokens=8))

    slots = load(cache, node)

    assert torch.equal(allocator.full_to_swa(slots), node.device[SWA])
    assert node.device[SWA].numel() == 8


def test_window_shorter_than_the_node_maps_its_last_tokens():
    params = swa_params(get_device("cpu"))
    cache = unified(params)
    allocator = params.token_to_kv_pool_allocator
    full = allocator.alloc(8)
    allocator.free_swa(full[:4])
    node = add(cache, 8, value=full, swa_evicted_seqlen=4)
    back_up(cache, node)
    cache.evict(EvictParams(num_tokens=8))

    slots = load(cache, node)

    assert allocator.full_to_swa(slots[:4]).tolist() == [0, 0, 0, 0]
    assert torch.equal(allocator.full_to_swa(slots[4:]), node.device[SWA])


def test_node_is_locked_until_its_backup_was_seen_finished(delayed):
    _, cache = plain(delayed)
    node = add(cache, 4)
    cache.write_backup(node)

    cache.writing_check()
    assert node.lock_ref == 1
    assert cache.evict(EvictParams(num_tokens=4)).num_tokens_evicted == 0
    assert cache.evict_host(4, FULL) == 0

    cache.cache_controller.write_stream.synchronize()
    cache.writing_check()
    assert node.lock_ref == 0
    assert cache.evict(EvictParams(num_tokens=4)).num_tokens_evicted == 4


def test_node_is_locked_until_its_load_was_seen_finished(delayed):
    _, cache = plain(delayed)
    node = add(cache, 4)
    back_up(cache, node)
    cache.evict(EvictParams(num_tokens=4))
    cache.load_back(node)
    cache.ready_to_load()

    cache.loading_check()
    assert node.lock_ref == 1
    assert cache.evict_host(4, FULL) == 0

    cache.cache_controller.load_stream.synchronize()
    cache.loading_check()
    assert node.lock_ref == 0


def test_unlocking_an_unlocked_node_raises():
    _, cache = plain(get_device("cpu"))
    with pytest.raises(AssemblyError, match="only a locked node is unlocked"):
        cache.dec_lock_ref(add(cache, 4), DecLockRefParams(window_tokens=0))


def test_backup_and_load_of_a_resident_node_do_nothing():
    _, cache = plain(get_device("cpu"))
    node = add(cache, 4)
    back_up(cache, node)
    free = cache.host_pool_group.available_size()

    assert cache.write_backup(node)
    assert cache.load_back(node) is node.device[FULL]
    assert cache.host_pool_group.available_size() == free
    assert cache.ready_to_load() == -1


def test_short_node_is_not_worth_loading():
    _, cache = plain(get_device("cpu"))
    node = add(cache, 8)
    back_up(cache, node)
    cache.evict(EvictParams(num_tokens=8))

    cache.load_back_threshold = 9
    assert cache.load_back(node) is None
    cache.load_back_threshold = 8
    assert cache.load_back(node) is not None


def test_load_beyond_its_quota_is_refused_and_locks_nothing():
    """The quota counts loaded tokens, and those that the lock keeps from eviction."""
    _, cache = plain(get_device("cpu"))
    first = insert(cache, [*range(8)]).last_device_node
    last = insert(cache, [*range(12)], value=None, prev_prefix_len=0).last_device_node
    back_up(cache, first)
    back_up(cache, last)
    cache.evict(EvictParams(num_tokens=4))
    assert (first.is_evicted, last.is_evicted) == (False, True)

    assert cache.load_back(last, mem_quota=11) is None
    assert (first.lock_ref, last.lock_ref, cache.protected_size()) == (0, 0, 0)
    assert cache.cache_controller.load_queue == []
    lock = cache.inc_lock_ref(first)
    assert cache.load_back(last, mem_quota=3) is None
    # The first node is locked already: only the loaded tokens count.
    assert len(cache.load_back(last, mem_quota=4)) == 12
    cache.dec_lock_ref(first, lock.to_dec_params())


def test_load_without_a_quota_is_only_bounded_by_space():
    _, cache = plain(get_device("cpu"))
    node = add(cache, 12)
    back_up(cache, node)
    cache.evict(EvictParams(num_tokens=12))

    assert len(cache.load_back(node)) == 12


@pytest.mark.parametrize("policy", ["write_through_selective", "write_back"])
@pytest.mark.parametrize("io_backend", ["kernel", "direct"])
def test_request_gets_a_copy_of_the_state_that_a_load_brings_back(delayed, policy, io_backend):
    params = mamba_params(delayed)
    cache = unified(params, hicache_write_policy=policy, hicache_io_backend=io_backend)
    states, pool = params.req_to_token_pool.mamba_allocator, params.req_to_token_pool.mamba_pool
    nodes = [add(cache, 4) for _ in range(2)]
    numbers = []
    for node in nodes:
        (slot,) = node.device[MAMBA].tolist()
        numbers.append(10 + slot)
        delayed.synchronize()
        for buffer in (pool.temporal, *pool.conv):
            buffer[:, slot] = 10 + slot
        back_up(cache, node)
    cache.evict(EvictParams(num_tokens=8))
    own = [states.alloc(1) for _ in nodes]

    # Both loads are launched as one operation.
    for node, slot in zip(nodes, own, strict=True):
        cache.load_back(node, state_slot=slot)
    cache.ready_to_load()
    delayed.synchronize()
    cache.loading_check()

    for node, slot, number in zip(nodes, own, numbers, strict=True):
        for buffer in (pool.temporal, *pool.conv):
            assert (buffer[:, slot] == number).all()
            assert (buffer[:, node.device[MAMBA]] == number).all()
        assert slot.tolist() != node.device[MAMBA].tolist()
    # The slots are still the requests': two nodes have one each, and so have two requests.
    assert states.available_size() == states.size - 4


def test_state_that_the_device_has_is_not_copied():
    params = mamba_params(get_device("cpu"))
    cache = unified(params)
    node = add(cache, 4)
    params.req_to_token_pool.mamba_pool.temporal[:, node.device[MAMBA]] = 7
    back_up(cache, node)
    own = params.req_to_token_pool.mamba_allocator.alloc(1)

    assert cache.load_back(node, state_slot=own) is not None
    assert cache.ready_to_load() == -1
    assert not params.req_to_token_pool.mamba_pool.temporal[:, own].any()


def test_slot_of_a_state_without_states_raises():
    _, cache = plain(get_device("cpu"))
    message = "load: a state needs a cache that keeps states; expected no slot of a state, got one"
    with pytest.raises(AssemblyError, match=message):
        cache.load_back(add(cache, 4), state_slot=torch.tensor([1]))


def test_acknowledgements_of_others_are_passed_over():
    params, cache = plain(get_device("cpu"))
    cache.cache_controller.write(params.token_to_kv_pool_allocator.alloc(4))

    cache.writing_check()

    assert cache.cache_controller.ack_write_queue == []


@pytest.mark.parametrize("model", MODELS)
def test_reset_frees_every_slot(delayed, model):
    params = MODELS[model](delayed)
    cache = unified(params)
    nodes = [add(cache, 4) for _ in range(3)]
    back_up(cache, nodes[0])
    cache.evict(EvictParams(num_tokens=4))
    cache.load_back(nodes[0])
    cache.write_backup(nodes[1])

    cache.reset()

    assert params.token_to_kv_pool_allocator.available_size() == 64
    assert cache.host_pool_group.available_size() == cache.host_pool_group.size
    if params.req_to_token_pool is not None:
        assert params.req_to_token_pool.mamba_allocator.available_size() == 8
    assert cache.evict(EvictParams(num_tokens=4)) == EvictResult(0, 0, 0)


def test_cache_without_a_stack_raises():
    cache = UnifiedRadixCache(params_of(mha_pool(get_device("cpu"))))
    with pytest.raises(AssemblyError, match="must be attached first; expected a stack, got none"):
        cache.write_backup(add(cache, 4))


def test_state_that_the_cache_does_not_keep_raises():
    _, cache = plain(get_device("cpu"))
    message = (
        "insert: a state needs a cache that keeps states; expected no slot of a state, got one"
    )
    with pytest.raises(AssemblyError, match=message):
        insert(cache, [1, 2, 3, 4], mamba_value=torch.tensor([1]))


@pytest.mark.parametrize(
    ("make_params", "components"),
    [
        (lambda **kw: params_of(mha_pool(get_device("cpu")), **kw), (FULL, SWA)),
        (lambda **kw: swa_params(get_device("cpu"), **kw), (FULL,)),
        (lambda **kw: mamba_params(get_device("cpu"), **kw), (FULL, SWA)),
    ],
)
def test_components_other_than_the_pools_raise(make_params, components):
    with pytest.raises(AssemblyError, match="components must be those of the device pools"):
        UnifiedRadixCache(make_params(tree_components=components))


def test_components_of_the_pools_may_be_named():
    """Control of the test above."""
    cache = UnifiedRadixCache(mamba_params(get_device("cpu"), tree_components=(MAMBA, FULL)))

    assert cache.tree_components == {FULL, MAMBA}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"eviction_policy": "fifo"}, "eviction order must be known; expected lru, got fifo"),
        ({"disable": True}, "a hierarchical cache must be enabled"),
    ],
)
def test_cache_that_cannot_be_hierarchical_raises(setting, message):
    params = params_of(mha_pool(get_device("cpu")))
    for name, value in setting.items():
        setattr(params, name, value)
    with pytest.raises(AssemblyError, match=message):
        UnifiedRadixCache(params)


def test_pool_that_nothing_moves_raises():
    """A forgotten sidecar would load stale index keys."""
    params = params_of(nsa_pool(get_device("cpu")))
    cache = UnifiedRadixCache(params)
    with pytest.raises(AssemblyError, match="INDEXER: a pool of the group must move"):
        cache.adopt(*shared_anchor(params))


def test_sidecar_without_a_pool_raises():
    params = params_of(mha_pool(get_device("cpu")))
    cache = UnifiedRadixCache(params)
    cache.register_sidecar_pool(SidecarPoolSpec(PoolName.INDEXER, PoolName.KV))
    with pytest.raises(AssemblyError, match="INDEXER: a part of the cache must have a pool"):
        cache.adopt(*kv_only(params))
