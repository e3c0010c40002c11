"""Caches with a storage tier, and the steps that tests play on them."""

from tests.assembler.cache.cache_steps import (
    MODELS,
    attach_storage,
    insert,
    match,
    unified,
)

TOKENS = [*range(1, 13)]


def stored(device, blobs, *, model="mha", policy="write_through", **options):
    """Return the parameters and the cache of a model, over a store of named bytes."""
    params = MODELS[model](device)
    cache = unified(params, hicache_write_policy=policy)
    attach_storage(cache, blobs, **options)
    return params, cache


def settle(cache):
    while cache.ongoing_write_through or cache.ongoing_backup:
        cache.check_hicache_events()


def only_in_storage(device, blobs, **options):
    """Return a cache as `stored` makes it, empty after :data:`TOKENS` have reached storage."""
    _, cache = stored(device, blobs, **options)
    insert(cache, TOKENS)
    settle(cache)
    cache.reset()
    return cache


def fetch(cache, tokens, *, anchor=None, request="r"):
    """Fetch tokens behind a node, or behind the root, and wait for them."""
    anchor = anchor or match(cache, []).last_device_node
    is_started = cache.prefetch_from_storage(request, anchor, tokens)
    while not cache.check_prefetch_progress(request):
        pass
    return is_started


def free_host(cache):
    return {entry.name: entry.host_pool.available_size() for entry in cache.host_pool_group.entries}
