"""Attach functions: choose the stack for a model's pools, build it, hand it to the cache.

The arguments that all builders share are collected once per call, in
:class:`SharedStackArguments`; mypy checks the keys where they are unpacked.

Source: sglang 0.5.12 ``hybrid_pool_assembler.py:639-1026``.
"""

import threading
from collections.abc import Callable, Mapping
from typing import NotRequired, TypedDict

from assembler.errors import AssemblyError
from assembler.groups import ProcessGroup
from assembler.host_pools.group import SidecarPoolSpec
from assembler.host_pools.mirrored import MirroredPool
from assembler.names import ComponentType, PoolName
from assembler.owner import EvictParams, StackOwner
from assembler.params import CacheInitParams, ServerArgs
from assembler.stacks.hybrid_mamba import build_hybrid_mamba_stack
from assembler.stacks.hybrid_swa import build_hybrid_swa_stack
from assembler.stacks.kv_only import build_kv_only_stack
from assembler.stacks.parts import Stack, mirrored_pools, sidecar_host_factory
from assembler.stacks.shared_anchor import build_shared_anchor_stack


class SharedStackArguments(TypedDict):
    """Keywords that every builder takes; the last two only where there is a storage tier."""

    params: CacheInitParams
    server_args: ServerArgs
    page_size: int
    tp_group: ProcessGroup | None
    load_cache_event: threading.Event | None
    attn_cp_group: ProcessGroup | None
    attn_tp_group: ProcessGroup | None
    pp_group: ProcessGroup | None
    storage_backend: str | None
    model_name: str | None
    pp_rank: int
    pp_size: int
    enable_storage_metrics: bool
    prefetch_threshold: NotRequired[int]
    storage_backend_extra_config: NotRequired[Mapping[str, object] | None]


class AttachArguments(TypedDict):
    """Keywords of the attach functions of caches with a storage tier."""

    extra_config: Mapping[str, object] | None
    prefetch_threshold: int
    enable_storage_metrics: bool
    load_cache_event: threading.Event | None
    attn_cp_group: ProcessGroup | None
    attn_tp_group: ProcessGroup | None


def attach_hybrid_pool_to_unified_cache(
    cache: StackOwner,
    params: CacheInitParams,
    server_args: ServerArgs,
    *,
    load_cache_event: threading.Event | None,
    attn_cp_group: ProcessGroup | None = None,
    attn_tp_group: ProcessGroup | None = None,
) -> None:
    """Build the stack of the model's pools, of any family, and give it to ``cache``.

    The cache evicts for the stack; sidecars are registered with it. The other arguments are those
    of :mod:`assembler.stacks`.

    Raises:
        AssemblyError: no stack is known for the pools, or the stack would not mirror them.
    """
    shared = _without_storage(
        params,
        server_args,
        load_cache_event=load_cache_event,
        attn_cp_group=attn_cp_group,
        attn_tp_group=attn_tp_group,
    )
    components = params.token_to_kv_pool_allocator.get_kvcache().components
    if components not in _STACKS:
        raise _wrong_pools(params, expected=" or ".join(map(_name_of, _STACKS)))
    cache.adopt(*_STACKS[components](cache, shared))


def attach_hybrid_nsa_pool_to_hiradix_cache(  # noqa: PLR0913 - published signature
    radix_cache: StackOwner,
    params: CacheInitParams,
    server_args: ServerArgs,
    *,
    extra_config: Mapping[str, object] | None,
    prefetch_threshold: int,
    enable_storage_metrics: bool,
    load_cache_event: threading.Event | None,
    attn_cp_group: ProcessGroup | None = None,
    attn_tp_group: ProcessGroup | None = None,
) -> None:
    """Build the stack of a sparse-attention pool, latent rows and index, for a radix cache.

    The index is registered as the cache's sidecar. ``extra_config`` holds the storage tier's own
    settings; tokens below ``prefetch_threshold`` are not looked for there. The other arguments are
    those of :mod:`assembler.stacks`.

    Raises:
        AssemblyError: the pool is no sparse-attention pool, or the stack would not mirror it.

    Source: sglang 0.5.12 ``hybrid_pool_assembler.py:907-963``; its ``override_kv_cache_dim`` is
        what 0.5.11 lost and #25022 restored.
    """
    arguments = AttachArguments(
        extra_config=extra_config,
        prefetch_threshold=prefetch_threshold,
        enable_storage_metrics=enable_storage_metrics,
        load_cache_event=load_cache_event,
        attn_cp_group=attn_cp_group,
        attn_tp_group=attn_tp_group,
    )
    shared = _with_storage(params, server_args, arguments)
    if not has_sidecar(params):
        raise _wrong_pools(params, expected="a pool with index keys")
    radix_cache.adopt(*_full_stack(radix_cache, shared))


def attach_hybrid_pool_to_mamba_cache(  # noqa: PLR0913 - published signature
    mamba_cache: StackOwner,
    params: CacheInitParams,
    server_args: ServerArgs,
    *,
    extra_config: Mapping[str, object] | None,
    prefetch_threshold: int,
    load_cache_event: threading.Event | None,
    enable_storage_metrics: bool = False,
    attn_cp_group: ProcessGroup | None = None,
    attn_tp_group: ProcessGroup | None = None,
) -> None:
    """Build the stack of a hybrid of attention and recurrent states for a Mamba cache.

    The arguments are those of :func:`attach_hybrid_nsa_pool_to_hiradix_cache`; ``params`` has the
    request pool too.

    Raises:
        AssemblyError: the pools are no such hybrid, or the stack would not mirror them.
    """
    arguments = AttachArguments(
        extra_config=extra_config,
        prefetch_threshold=prefetch_threshold,
        enable_storage_metrics=enable_storage_metrics,
        load_cache_event=load_cache_event,
        attn_cp_group=attn_cp_group,
        attn_tp_group=attn_tp_group,
    )
    shared = _with_storage(params, server_args, arguments)
    mamba_cache.adopt(*_mamba_stack(mamba_cache, shared))


def adopt_plain_stack(
    radix_cache: StackOwner,
    params: CacheInitParams,
    server_args: ServerArgs,
    arguments: AttachArguments,
) -> None:
    """Build the stack of a pool of keys and values or latent rows for a radix cache.

    The field has no attach function for these pools, so goldens do not record this one.

    Raises:
        AssemblyError: the stack would not mirror the pool.
    """
    shared = _with_storage(params, server_args, arguments)
    radix_cache.adopt(*_full_stack(radix_cache, shared))


def _without_storage(
    params: CacheInitParams,
    server_args: ServerArgs,
    *,
    load_cache_event: threading.Event | None,
    attn_cp_group: ProcessGroup | None,
    attn_tp_group: ProcessGroup | None,
) -> SharedStackArguments:
    return SharedStackArguments(
        params=params,
        server_args=server_args,
        page_size=params.page_size,
        tp_group=params.tp_cache_group,
        load_cache_event=load_cache_event,
        attn_cp_group=attn_cp_group,
        attn_tp_group=attn_tp_group,
        pp_group=params.pp_cache_group,
        storage_backend=None,
        model_name=server_args.served_model_name,
        pp_rank=params.pp_rank,
        pp_size=params.pp_size,
        enable_storage_metrics=params.enable_metrics,
    )


def _with_storage(
    params: CacheInitParams, server_args: ServerArgs, arguments: AttachArguments
) -> SharedStackArguments:
    shared = _without_storage(
        params,
        server_args,
        load_cache_event=arguments["load_cache_event"],
        attn_cp_group=arguments["attn_cp_group"],
        attn_tp_group=arguments["attn_tp_group"],
    )
    return {
        **shared,
        "storage_backend": server_args.hicache_storage_backend,
        "storage_backend_extra_config": arguments["extra_config"],
        "prefetch_threshold": arguments["prefetch_threshold"],
        "enable_storage_metrics": arguments["enable_storage_metrics"],
    }


def has_sidecar(params: CacheInitParams) -> bool:
    """Return whether the model's full KV has rows that share the anchor's slots."""
    return any(not pool.owns_slots for pool in mirrored_pools(params))


def _sparse_stack(
    owner: StackOwner, kv: MirroredPool, sidecar: MirroredPool, shared: SharedStackArguments
) -> Stack:
    """Build the stack of a pool with index keys and register them as its sidecar."""
    name = sidecar.geometry.pool
    stack = build_shared_anchor_stack(
        **shared,
        kv_pool=kv.device_pool,
        full_layer_mapping=kv.layer_mapping,
        use_mla=kv.device_pool.use_mla,
        shared_pool_name=name,
        shared_host_pool_factory=sidecar_host_factory(
            sidecar, shared["server_args"], page_size=shared["page_size"]
        ),
        override_kv_cache_dim=kv.device_pool.host_row_width,
    )
    # Before the caller's adopt(), which refuses a pool that nothing moves.
    owner.register_sidecar_pool(SidecarPoolSpec(name, PoolName.KV))
    return stack


def _full_stack(owner: StackOwner, shared: SharedStackArguments) -> Stack:
    """Build the stack of a pool whose only slots are the anchor's."""
    kv, *sidecars = mirrored_pools(shared["params"])
    if sidecars:
        (sidecar,) = sidecars
        return _sparse_stack(owner, kv, sidecar, shared)
    return build_kv_only_stack(
        **shared,
        kv_pool=kv.device_pool,
        full_layer_mapping=kv.layer_mapping,
        use_mla=kv.device_pool.use_mla,
        override_kv_cache_dim=kv.device_pool.host_row_width,
    )


def _swa_stack(owner: StackOwner, shared: SharedStackArguments) -> Stack:
    full, swa = mirrored_pools(shared["params"])
    return build_hybrid_swa_stack(
        **shared,
        full_kv_pool=full.device_pool,
        swa_kv_pool=swa.device_pool,
        full_layer_mapping=full.layer_mapping,
        swa_layer_mapping=swa.layer_mapping,
        use_mla=full.device_pool.use_mla,
        host_swa_evict_fn=lambda num: owner.evict_host(num, ComponentType.SWA),
        device_swa_evict_fn=lambda num: owner.evict(EvictParams(swa_num_tokens=num)),
    )


def _mamba_stack(owner: StackOwner, shared: SharedStackArguments) -> Stack:
    params = shared["params"]
    kv = params.token_to_kv_pool_allocator.get_kvcache()
    if kv.components != _LINEAR:
        raise _wrong_pools(params, expected=_name_of(_LINEAR))
    if params.req_to_token_pool is None:
        raise AssemblyError("attach", _RULE, expected="HybridReqToTokenPool", got="none")
    (states,) = params.req_to_token_pool.mirrored()
    full, *_ = kv.mirrored()
    return build_hybrid_mamba_stack(
        **shared,
        kv_pool=full.device_pool,
        mamba_pool=states.device_pool,
        full_layer_mapping=full.layer_mapping,
        mamba_layer_mapping=states.layer_mapping,
        use_mla=full.device_pool.use_mla,
        host_mamba_evict_fn=lambda num: owner.evict_host(num, ComponentType.MAMBA),
        device_mamba_evict_fn=lambda num: owner.evict(EvictParams(mamba_num=num)),
    )


_RULE = "the model's pools must suit the attach function"
_LINEAR = (ComponentType.FULL, ComponentType.MAMBA)
_STACKS: Mapping[tuple[ComponentType, ...], Callable[[StackOwner, SharedStackArguments], Stack]] = {
    (ComponentType.FULL,): _full_stack,
    (ComponentType.FULL, ComponentType.SWA): _swa_stack,
    _LINEAR: _mamba_stack,
}


def _name_of(components: tuple[ComponentType, ...]) -> str:
    return f"slots for {' and '.join(components)}"


def _wrong_pools(params: CacheInitParams, *, expected: str) -> AssemblyError:
    got = type(params.token_to_kv_pool_allocator.get_kvcache()).__name__
    return AssemblyError("attach", _RULE, expected=expected, got=got)
