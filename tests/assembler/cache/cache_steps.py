"""Caches over small models, and the steps that tests play on them."""

from assembler.cache.unified import UnifiedRadixCache
from assembler.names import ComponentType
from assembler.params import ServerArgs
from tests.assembler.small_models import mamba_params, mha_pool, nsa_pool, params_of, swa_params

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
