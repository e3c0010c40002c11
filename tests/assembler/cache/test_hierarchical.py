import pytest
import torch

from assembler.accelerator import get_device
from assembler.cache.hierarchical import HierarchicalCache
from assembler.cache.nodes import EvictParams, EvictResult
from assembler.cache.unified import UnifiedRadixCache
from assembler.errors import AssemblyError, TransferError
from assembler.host_pools.group import SidecarPoolSpec
from assembler.names import ComponentType, PoolName
from assembler.params import ServerArgs
from assembler.walls import without_walls
from tests.assembler.models import (
    fill,
    mamba_params,
    mha_pool,
    nsa_pool,
    params_of,
    poison,
    snapshot,
    swa_params,
)
from tests.assembler.stacks.calls import kv_only, shared_anchor

FULL, SWA, MAMBA = ComponentType.FULL, ComponentType.SWA, ComponentType.MAMBA


def unified(params, **server):
    cache = UnifiedRadixCache(params)
    cache.init_hicache(ServerArgs(**server), params)
    cache.load_back_threshold = 0
    return cache


def plain(device, **server):
    params = params_of(mha_pool(device))
    return params, unified(params, **server)


def add(cache, tokens):
    """Insert a node of fresh slots, with a window and a state where the model has them."""
    allocator = cache.token_to_kv_pool_allocator
    full = allocator.alloc(tokens)
    components = {}
    if SWA in cache.tree_components:
        components[SWA] = allocator.full_to_swa(full)
    if MAMBA in cache.tree_components:
        components[MAMBA] = cache.req_to_token_pool.mamba_allocator.alloc(1)
    return cache.insert(full, components=components)


def back_up(cache, node):
    assert cache.write_backup(node)
    cache.writing_check(write_back=True)


def load(cache, node):
    slots = cache.load_back(node)
    cache.ready_to_load()
    cache.cache_controller.load_stream.synchronize()
    cache.loading_check()
    return slots


def device_pools(params):
    """Return (pool, component of its planes) of a model."""
    kvcache = params.token_to_kv_pool_allocator.get_kvcache()
    if params.req_to_token_pool is not None:
        return [(kvcache.full_kv_pool, FULL), (params.req_to_token_pool.mamba_pool, MAMBA)]
    if params.sliding_window_size is not None:
        return [(kvcache.full_kv_pool, FULL), (kvcache.swa_kv_pool, SWA)]
    return [(kvcache, FULL)]


MODELS = {
    "mha": lambda device: params_of(mha_pool(device)),
    "nsa": lambda device: params_of(nsa_pool(device)),
    "swa": lambda device: swa_params(device, sliding_window_size=8),
    "mamba": mamba_params,
}


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
    node = cache.insert(full, components={SWA: allocator.full_to_swa(full[4:])})
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


def test_locked_node_is_not_evicted():
    _, cache = plain(get_device("cpu"))
    node = add(cache, 4)
    back_up(cache, node)
    cache.inc_lock_ref(node)

    assert cache.evict(EvictParams(num_tokens=4)).num_tokens_evicted == 0
    cache.dec_lock_ref(node)
    assert cache.evict(EvictParams(num_tokens=4)).num_tokens_evicted == 4


def test_unlocking_an_unlocked_node_raises():
    _, cache = plain(get_device("cpu"))
    with pytest.raises(AssemblyError, match="only a locked node is unlocked"):
        cache.dec_lock_ref(add(cache, 4))


def test_backup_and_load_of_a_resident_node_do_nothing():
    _, cache = plain(get_device("cpu"))
    node = add(cache, 4)
    back_up(cache, node)
    free = cache.host_pool_group.available_size()

    assert cache.write_backup(node)
    assert cache.load_back(node) is node.device[FULL]
    assert cache.host_pool_group.available_size() == free
    assert cache.ready_to_load() == -1


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
        cache.record_hit(node)
    assert not node.is_backed_up

    cache.evict(EvictParams(num_tokens=4))

    assert (node.is_evicted, node.is_backed_up, node.lock_ref) == (True, True, 0)


@pytest.mark.parametrize(("policy", "hits"), [("write_through", 1), ("write_through_selective", 2)])
def test_write_through_saves_a_node_at_its_threshold(policy, hits):
    _, cache = plain(get_device("cpu"), hicache_write_policy=policy)
    node = add(cache, 4)
    for _ in range(hits - 1):
        cache.record_hit(node)
    assert not node.is_backed_up

    cache.record_hit(node)

    assert node.is_backed_up
    assert cache.write_through_threshold == hits


def test_eviction_goes_by_last_use():
    _, cache = plain(get_device("cpu"))
    first, second = add(cache, 4), add(cache, 4)
    for node in (first, second):
        back_up(cache, node)
    cache.record_hit(first)

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


def test_short_node_is_not_worth_loading():
    _, cache = plain(get_device("cpu"))
    node = add(cache, 8)
    back_up(cache, node)
    cache.evict(EvictParams(num_tokens=8))

    cache.load_back_threshold = 9
    assert cache.load_back(node) is None
    cache.load_back_threshold = 8
    assert cache.load_back(node) is not None


def narrow(device):
    """A cache whose loads fail: the host believes in narrower rows, behind opened walls."""
    params = params_of(nsa_pool(device))
    with without_walls():
        stack = shared_anchor(
            params, arguments={"override_kv_cache_dim": None}, hicache_io_backend="direct"
        )
        cache = UnifiedRadixCache(params)
        cache.register_sidecar_pool(SidecarPoolSpec(PoolName.INDEXER, PoolName.KV))
        cache.adopt(*stack)
    return params, cache


def test_failed_backup_leaves_the_node_as_it_was(delayed):
    _, cache = narrow(delayed)
    node = add(cache, 4)

    with pytest.raises(RuntimeError, match="must match the size of tensor b"):
        cache.write_backup(node)

    assert (node.lock_ref, node.is_backed_up) == (0, False)
    assert cache.host_pool_group.available_size() == cache.host_pool_group.size


def test_failed_load_leaves_the_node_on_the_host(delayed):
    params, cache = narrow(delayed)
    node = add(cache, 4)
    node.host[FULL] = cache.host_pool_group.alloc(4)
    cache.evict(EvictParams(num_tokens=4))
    cache.load_back(node)

    with pytest.raises(RuntimeError, match="must match the size of tensor b"):
        cache.ready_to_load()

    assert (node.lock_ref, node.is_evicted, node.is_backed_up) == (0, True, True)
    assert params.token_to_kv_pool_allocator.available_size() == 64
    assert cache.ready_to_load() == -1


def test_failed_window_load_unmaps_the_slots_it_gave_back(monkeypatch):
    params = swa_params(get_device("cpu"))
    cache = unified(params)
    node = add(cache, 4)
    back_up(cache, node)
    cache.evict(EvictParams(num_tokens=4))
    slots = cache.load_back(node)

    def fail(**arguments):
        raise RuntimeError("copy failed")

    swa_host = cache.host_pool_group.get_pool(PoolName.SWA)
    monkeypatch.setattr(swa_host, "load_to_device_per_layer", fail)
    with pytest.raises(RuntimeError, match="copy failed"):
        cache.ready_to_load()

    allocator = params.token_to_kv_pool_allocator
    assert allocator.full_to_swa(slots).tolist() == [0, 0, 0, 0]
    assert (allocator.full_available_size(), allocator.swa_available_size()) == (64, 64)


def test_too_many_loads_in_flight_keep_the_newest_queued(delayed):
    _, cache = plain(delayed)
    nodes = [add(cache, 4) for _ in range(4)]
    for node in nodes:
        back_up(cache, node)
    cache.evict(EvictParams(num_tokens=16))
    for node in nodes[:3]:
        cache.load_back(node)
        cache.ready_to_load()
    cache.load_back(nodes[3])

    with pytest.raises(TransferError, match="at most 3 loads in flight"):
        cache.ready_to_load()
    assert (nodes[3].lock_ref, nodes[3].is_evicted) == (1, False)

    cache.cache_controller.load_stream.synchronize()
    cache.loading_check()
    assert cache.ready_to_load() == 0


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
    cache = HierarchicalCache(params_of(mha_pool(get_device("cpu"))))
    with pytest.raises(AssemblyError, match="must be attached first; expected a stack, got none"):
        cache.write_backup(add(cache, 4))


def test_component_that_the_cache_does_not_have_raises():
    _, cache = plain(get_device("cpu"))
    message = "node: components must be the cache's, beside the full KV; expected none, got mamba"
    with pytest.raises(AssemblyError, match=message):
        cache.insert(torch.arange(4, 8), components={MAMBA: torch.tensor([1])})


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
