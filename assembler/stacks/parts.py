"""Parts of the stack builders: host pools, entries, the stage's layers, and the last step.

Nothing here has a default: a keyword that a builder forgets is a TypeError.

Source: sglang 0.5.12 ``hybrid_pool_assembler.py:43-92``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, TypeAlias

from assembler.controller.hybrid import HybridCacheController
from assembler.controller.settings import ControllerSettings
from assembler.device.base import Device
from assembler.errors import AssemblyError
from assembler.host_pools.base import DevicePool, HostKVCache
from assembler.host_pools.group import AllocFn, EvictFn, FreeFn, HostPoolGroup, PoolEntry
from assembler.host_pools.memory import HostPoolArguments
from assembler.host_pools.mirrored import MirroredPool
from assembler.names import PoolName
from assembler.params import CacheInitParams, ServerArgs
from assembler.validation import validate_stack

Stack: TypeAlias = tuple[HostPoolGroup, HybridCacheController]


def build_kv_host_pool(
    *,
    kv_pool: DevicePool,
    page_size: int,
    server_args: ServerArgs,
    use_mla: bool,
    override_kv_cache_dim: int | None,
) -> HostKVCache:
    """Build the pinned host mirror of a token pool, sized and laid out by ``server_args``.

    ``use_mla`` is whether rows are latent (one plane) or keys and values. ``override_kv_cache_dim``
    is the number of elements of a latent row where the device's is not ``kv_lora_rank +
    qk_rope_head_dim``; None where it is, and for keys and values.

    Raises:
        AssemblyError: ``use_mla`` or the override does not suit the pool.
        PoolError: the layout is unknown to the pool, or the host would not outgrow the device.
        OutOfHostMemoryError: the pool does not fit.
    """
    if kv_pool.use_mla is not use_mla:
        rule = "use_mla must suit the pool"
        raise AssemblyError("KV", rule, expected=not use_mla, got=f"use_mla={use_mla}")
    arguments = host_pool_arguments(server_args, page_size=page_size, device=kv_pool.device)
    return kv_pool.make_host_pool(arguments, override_kv_cache_dim=override_kv_cache_dim)


def host_pool_arguments(
    server_args: ServerArgs, *, page_size: int, device: Device
) -> HostPoolArguments:
    """Return the arguments of a pinned host pool, sized and laid out by ``server_args``."""
    return HostPoolArguments(
        host_to_device_ratio=server_args.hicache_ratio,
        host_size=server_args.hicache_size,
        page_size=page_size,
        layout=server_args.hicache_mem_layout,
        pin_memory=True,
        device=device,
        allocator_type=server_args.hicache_storage_backend,
    )


def sidecar_host_factory(
    sidecar: MirroredPool, server_args: ServerArgs, *, page_size: int
) -> Callable[[HostKVCache], HostKVCache]:
    """Return a builder of the sidecar's host pool; raise AssemblyError if it has its own slots."""
    make, device = sidecar.make_sidecar_host, sidecar.device_pool.device
    if make is None:
        rule, expected = "a sidecar must share the anchor's slots", "make_sidecar_host"
        raise AssemblyError(sidecar.geometry.pool.name, rule, expected=expected, got="none")
    arguments = host_pool_arguments(server_args, page_size=page_size, device=device)
    return lambda anchor_host: make(anchor_host, arguments)


def build_pool_entry(  # noqa: PLR0913 - goldens record these parameters
    *,
    name: PoolName,
    host_pool: HostKVCache,
    device_pool: DevicePool,
    layer_mapping: Mapping[int, int],
    start_layer: int,
    transfer_layer_num: int,
    is_anchor: bool,
    host_evict_fn: EvictFn | None,
    device_evict_fn: EvictFn | None,
    device_alloc_fn: AllocFn | None,
    device_free_fn: FreeFn | None,
) -> PoolEntry:
    """Build the entry of one pool. Goldens record these parameters, hence their number.

    ``layer_mapping`` goes from global layer ids to layer indices in the pool. The entry maps the
    stage-local layers of a load, ``transfer_layer_num`` from ``start_layer`` on, and none beyond.
    The functions are those of :class:`~assembler.host_pools.group.PoolEntry`.
    """
    # A load counts layers from 0 on every pipeline stage, the mapping has global ids. A layer that
    # only other pools have is absent from it, and in that layer's turn this pool moves nothing.
    mapped = {
        layer_id: layer_mapping[layer_id + start_layer]
        for layer_id in range(transfer_layer_num)
        if layer_id + start_layer in layer_mapping
    }

    return PoolEntry(
        name=name,
        host_pool=host_pool,
        device_pool=device_pool,
        layer_mapper=mapped.get,
        is_primary_index_anchor=is_anchor,
        host_evict_fn=host_evict_fn,
        device_evict_fn=device_evict_fn,
        device_alloc_fn=device_alloc_fn,
        device_free_fn=device_free_fn,
    )


class SlotFunctions(NamedTuple):
    """Functions that find slots for an entry's pool, see ``PoolEntry``."""

    host_evict_fn: EvictFn | None
    device_evict_fn: EvictFn | None
    device_alloc_fn: AllocFn | None
    device_free_fn: FreeFn | None


# The controller allocates the group's slot numbers, for the anchor and the pools that share them.
GROUP_SLOTS = SlotFunctions(None, None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLayers:
    """Layers of a pipeline stage.

    Attributes:
        start_layer: first global layer id of the stage.
        layer_num: layers from the stage's first one to the last one that any pool has.
    """

    start_layer: int
    layer_num: int

    @classmethod
    def of(cls, params: CacheInitParams, *layer_mappings: Mapping[int, int]) -> Self:
        """Return the layers from the stage's first to the last mapped one.

        Raises:
            AssemblyError: no layer is mapped, or one belongs to an earlier stage.
        """
        start_layer = params.token_to_kv_pool_allocator.get_kvcache().start_layer
        layer_ids = [layer_id for mapping in layer_mappings for layer_id in mapping]
        if not layer_ids or min(layer_ids) < start_layer:
            raise AssemblyError(
                "layer mapping",
                "mapped layers must belong to the pipeline stage",
                expected=f"ids from {start_layer} on",
                got=sorted(layer_ids) or "none",
            )
        # Not len(mapping): ids with gaps, or several pools, would lose their last layers.
        return cls(start_layer=start_layer, layer_num=max(layer_ids) - start_layer + 1)

    def entry(
        self,
        name: PoolName,
        host_pool: HostKVCache,
        device_pool: DevicePool,
        layer_mapping: Mapping[int, int],
        slots: SlotFunctions,
    ) -> PoolEntry:
        """Return the entry of a pool that has some of these layers; ``KV`` is the anchor."""
        return build_pool_entry(
            name=name,
            host_pool=host_pool,
            device_pool=device_pool,
            layer_mapping=layer_mapping,
            start_layer=self.start_layer,
            transfer_layer_num=self.layer_num,
            is_anchor=name is PoolName.KV,
            host_evict_fn=slots.host_evict_fn,
            device_evict_fn=slots.device_evict_fn,
            device_alloc_fn=slots.device_alloc_fn,
            device_free_fn=slots.device_free_fn,
        )


def mirror_token_pool(
    kv_pool: DevicePool,
    *,
    settings: ControllerSettings,
    use_mla: bool,
    override_kv_cache_dim: int | None,
) -> HostKVCache:
    """Return the host mirror of a token pool, see :func:`build_kv_host_pool`."""
    return build_kv_host_pool(
        kv_pool=kv_pool,
        page_size=settings.page_size,
        server_args=settings.server_args,
        use_mla=use_mla,
        override_kv_cache_dim=override_kv_cache_dim,
    )


def finish_stack(
    *, entries: Sequence[PoolEntry], layers: StageLayers, settings: ControllerSettings
) -> Stack:
    """Group the entries, check the group against the device pools, and build its controller.

    Raises:
        AssemblyError: the entries are no group, or not the mirror of the device pools.
        TransferError: the io backend is unknown.
    """
    host_pool_group = HostPoolGroup(entries)
    validate_stack(
        group=host_pool_group,
        declared=[pool.geometry for pool in mirrored_pools(settings.params)],
        page_size=settings.page_size,
        transfer_layer_num=layers.layer_num,
    )
    cache_controller = HybridCacheController(
        settings.params.token_to_kv_pool_allocator,
        host_pool_group,
        settings.page_size,
        settings.tp_group,
        load_cache_event=settings.load_cache_event,
        attn_cp_group=settings.attn_cp_group,
        attn_tp_group=settings.attn_tp_group,
        write_policy=settings.server_args.hicache_write_policy,
        io_backend=settings.server_args.hicache_io_backend,
        storage_backend=settings.storage_backend,
        prefetch_threshold=settings.prefetch_threshold,
        model_name=settings.model_name,
        storage_backend_extra_config=settings.storage_backend_extra_config,
        pp_rank=settings.pp_rank,
        pp_size=settings.pp_size,
        transfer_layer_num=layers.layer_num,
        enable_storage_metrics=settings.enable_storage_metrics,
        pp_group=settings.pp_group,
    )
    return host_pool_group, cache_controller


def mirrored_pools(params: CacheInitParams) -> tuple[MirroredPool, ...]:
    """Return everything that the model's device pools declare, the anchor first."""
    kv = params.token_to_kv_pool_allocator.get_kvcache().mirrored()
    requests = params.req_to_token_pool
    return kv if requests is None else kv + requests.mirrored()
