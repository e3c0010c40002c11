"""A copy that fails leaves everything as it was."""

import pytest

from assembler.cache.unified import UnifiedRadixCache
from assembler.device import get_device
from assembler.errors import TransferError
from assembler.host_pools.group import SidecarPoolSpec
from assembler.names import PoolName
from assembler.owner import EvictParams
from assembler.validation import validation_disabled
from tests.assembler.cache.cache_steps import add, back_up, plain, unified
from tests.assembler.small_models import nsa_pool, params_of, swa_params
from tests.assembler.stacks.builder_calls import shared_anchor


def narrow(device):
    """A cache whose loads fail: the host believes in narrower rows, behind opened walls."""
    params = params_of(nsa_pool(device))
    with validation_disabled():
        stack = shared_anchor(
            params,
            arguments={"override_kv_cache_dim": None},
            hicache_io_backend="direct",
            hicache_write_policy="write_through_selective",
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


def test_failed_load_leaves_the_node_on_the_host(delayed, monkeypatch):
    params, cache = plain(delayed)
    node = add(cache, 4)
    back_up(cache, node)
    cache.evict(EvictParams(num_tokens=4))
    cache.load_back(node)

    def fail(**arguments):
        raise RuntimeError("copy failed")

    host = cache.host_pool_group.get_pool(PoolName.KV)
    monkeypatch.setattr(host, "load_to_device_per_layer", fail)
    with pytest.raises(RuntimeError, match="copy failed"):
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
    assert (
        allocator.full_attn_allocator.available_size(),
        allocator.swa_attn_allocator.available_size(),
    ) == (64, 64)


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
