"""The draft model of a native stack: one layer, mirrored on the anchor's slots."""

from dataclasses import replace

from assembler import PoolName
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.mirrored import MirroredPool
from assembler.stacks import build_kv_host_pool
from traces.targets.native.builders import BuilderInputs, Cache
from traces.targets.native.device_side import consecutive_layers, make_token_pool
from traces.targets.native.models import FAMILY_OF

DRAFT_LAYERS = 1


def mirror_draft(plan: BuilderInputs, *, cache: Cache) -> tuple[MirroredPool, HostKVCache]:
    """Build both pools of a draft and hand them to the controller of ``cache``.

    Returns the rows on the device, and the host pool. That is sized by the anchor's, whatever the
    scenario's own sizing: it lives on the anchor's slots.

    Raises:
        AssemblyError: the host pool does not mirror the device pool.
        ValueError: the model of the scenario has no draft.
    """
    make_pool = FAMILY_OF[plan.scenario.model].make_draft_pool
    if make_pool is None:
        raise ValueError("scenario: a draft needs a family of pools; got none")
    pool = make_token_pool(
        plan.geometry,
        make_pool,
        layers=consecutive_layers(DRAFT_LAYERS, start_layer=plan.geometry.start_layer),
        device=plan.side.kvcache.device,
    )
    ratio = cache.host_pool_group.size / pool.size
    host_pool = build_kv_host_pool(
        kv_pool=pool,
        page_size=plan.params.page_size,
        server_args=replace(plan.server_args, hicache_ratio=ratio, hicache_size=0),
        use_mla=pool.use_mla,
        override_kv_cache_dim=pool.host_row_width,
    )
    cache.cache_controller.set_draft_kv_pool(pool, host_pool)
    (rows,) = pool.mirrored()
    return replace(rows, geometry=replace(rows.geometry, pool=PoolName.DRAFT)), host_pool
