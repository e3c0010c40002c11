"""Caches over small models, and the steps that tests play on them."""

import itertools

from assembler.cache.keys import RadixKey, token_ids
from assembler.cache.prefixes import InsertParams, MatchPrefixParams
from assembler.cache.unified import UnifiedRadixCache
from assembler.names import ComponentType
from assembler.params import ServerArgs
from tests.assembler.small_models import (
    PAGE,
    mamba_params,
    mha_pool,
    nsa_pool,
    params_of,
    swa_params,
)

_FRESH = itertools.count(1)
FULL, SWA, MAMBA = ComponentType.FULL, ComponentType.SWA, ComponentType.MAMBA


def unified(params, **server):
    """Return a cache that backs nothing up at its first insertion."""
    cache = UnifiedRadixCache(params)
    cache.init_hicache(
        ServerArgs(**{"hicache_write_policy": "write_through_selective", **server}), params
    )
    cache.load_back_threshold = 0
    return cache


def plain(device, **server):
    params = params_of(mha_pool(device))
    return params, unified(params, **server)


def attach_storage(cache, blobs, threshold=PAGE, **options):
    """Attach a store of named bytes to a cache; a prefetch waits for all pages."""
    options = {"prefetch_policy": "wait_complete", **options}
    controller = cache.cache_controller
    controller.attach_storage_backend("file", threshold, "lab/model", options)
    controller.storage_tier.storage.blobs = blobs


def insert(cache, tokens, **settings):
    """Insert tokens with fresh slots, a state among them where the model has states."""
    settings.setdefault("value", None)
    if settings["value"] is None:
        pages = -(-len(tokens) // cache.page_size)
        settings["value"] = cache.token_to_kv_pool_allocator.alloc(pages * cache.page_size)
    if MAMBA in cache.tree_components and "mamba_value" not in settings:
        settings["mamba_value"] = cache.req_to_token_pool.mamba_allocator.alloc(1)
    return cache.insert(InsertParams(key=RadixKey(tokens), **settings))


def match(cache, tokens, namespace=None):
    return cache.match_prefix(MatchPrefixParams(RadixKey(tokens, namespace)))


def add(cache, tokens, **settings):
    """Insert a number of tokens that no other node has, and return their node."""
    own = list(itertools.islice(_FRESH, tokens))
    return insert(cache, own, **settings).last_device_node


def use(cache, node):
    """Insert the tokens of a node again, in the slots that it has."""
    own = cache.path_device_indices(node)
    data = b"".join(part.key for part in node.path())
    key = RadixKey(token_ids(data))
    cache.insert(InsertParams(key=key, value=own, prev_prefix_len=len(own)))


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
