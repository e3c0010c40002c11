"""The draft model of a native stack: one layer, mirrored on the anchor's slots."""

from dataclasses import dataclass, replace

from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.host_pools.base import HostKVCache
from assembler.stacks import build_kv_host_pool
from traces.targets.native.builders import BuilderInputs, Cache
from traces.targets.native.pools import draft_geometry, main_pool

DRAFT_LAYERS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeDraftPools:
    """The pools of a draft model."""

    device_pool: MHATokenToKVPool | MLATokenToKVPool
    host_pool: HostKVCache


def mirror_draft(plan: BuilderInputs, *, cache: Cache) -> NativeDraftPools:
    """Build both pools of a draft and hand them to the controller of ``cache``.

    The host pool is sized by the anchor's, whatever the scenario's own sizing: it lives on the
    anchor's slots.

    Raises:
        AssemblyError: the host pool does not mirror the device pool.
    """
    geometry = draft_geometry(plan.geometry)
    pool = main_pool(
        geometry,
        layer_num=DRAFT_LAYERS,
        start_layer=geometry.start_layer,
        device=plan.side.kvcache.device,
    )
    ratio = cache.host_pool_group.size / pool.size
    host_pool = build_kv_host_pool(
        kv_pool=pool,
        page_size=plan.params.page_size,
        server_args=replace(plan.server_args, hicache_ratio=ratio, hicache_size=0),
        use_mla=isinstance(pool, MLATokenToKVPool),
        override_kv_cache_dim=pool.kv_cache_dim if isinstance(pool, MLATokenToKVPool) else None,
    )
    cache.cache_controller.set_draft_kv_pool(pool, host_pool)
    return NativeDraftPools(device_pool=pool, host_pool=host_pool)
