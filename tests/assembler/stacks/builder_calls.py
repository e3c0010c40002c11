"""Builder calls with everything that a test does not care about filled in."""

from assembler.host_pools.indexer import NSAIndexerPoolHost
from assembler.names import PoolName
from assembler.params import ServerArgs
from assembler.stacks import (
    build_hybrid_mamba_stack,
    build_hybrid_swa_stack,
    build_kv_only_stack,
    build_shared_anchor_stack,
)

SHARED = {"page_size": 4, "tp_group": None, "load_cache_event": None, "storage_backend": None}


def kvcache_of(params):
    return params.token_to_kv_pool_allocator.get_kvcache()


def stage_mapping(pool):
    return {
        layer: layer - pool.start_layer for layer in range(pool.start_layer, pool.end_layer + 1)
    }


def kv_only(params, *, arguments=None, **server):
    pool = kvcache_of(params)
    given = {
        "params": params,
        "server_args": ServerArgs(**server),
        "kv_pool": pool,
        "full_layer_mapping": stage_mapping(pool),
        "use_mla": hasattr(pool, "kv_lora_rank"),
        "override_kv_cache_dim": pool.kv_cache_dim if hasattr(pool, "kv_lora_rank") else None,
    }
    return build_kv_only_stack(**{**SHARED, **given, **(arguments or {})})


def shared_anchor(params, *, arguments=None, **server):
    pool, server_args = kvcache_of(params), ServerArgs(**server)

    def indexer(anchor_host):
        return NSAIndexerPoolHost(
            device_pool=pool,
            anchor_host=anchor_host,
            layout=server_args.hicache_mem_layout,
            pin_memory=True,
            device=pool.device,
            allocator_type=None,
        )

    given = {
        "params": params,
        "server_args": server_args,
        "kv_pool": pool,
        "full_layer_mapping": stage_mapping(pool),
        "use_mla": True,
        "shared_pool_name": PoolName.INDEXER,
        "shared_host_pool_factory": indexer,
        "override_kv_cache_dim": pool.kv_cache_dim,
    }
    return build_shared_anchor_stack(**{**SHARED, **given, **(arguments or {})})


def swa(params, *, arguments=None, **server):
    pool = kvcache_of(params)
    layers = pool.layers_mapping.items()
    given = {
        "params": params,
        "server_args": ServerArgs(**server),
        "full_kv_pool": pool.full_kv_pool,
        "swa_kv_pool": pool.swa_kv_pool,
        "full_layer_mapping": {layer: index for layer, (index, is_swa) in layers if not is_swa},
        "swa_layer_mapping": {layer: index for layer, (index, is_swa) in layers if is_swa},
        "use_mla": False,
    }
    return build_hybrid_swa_stack(**{**SHARED, **given, **(arguments or {})})


def mamba(params, *, arguments=None, **server):
    pool, requests = kvcache_of(params), params.req_to_token_pool
    given = {
        "params": params,
        "server_args": ServerArgs(**server),
        "kv_pool": pool.full_kv_pool,
        "mamba_pool": requests.mamba_pool,
        "full_layer_mapping": pool.full_attention_layer_id_mapping,
        "mamba_layer_mapping": requests.mamba_map,
        "use_mla": pool.use_mla,
    }
    return build_hybrid_mamba_stack(**{**SHARED, **given, **(arguments or {})})
