"""Validation of a cache against its parameters and its stack; correction of a host layout."""

import logging
from collections.abc import Iterable

import torch

from assembler.cache.transfers import POOL_OF_COMPONENT
from assembler.errors import AssemblyError
from assembler.host_pools.group import HostPoolGroup, SidecarPoolSpec
from assembler.names import ComponentType, HostLayout, IoBackend
from assembler.params import CacheInitParams, ServerArgs

logger = logging.getLogger(__name__)


def validate_params(params: CacheInitParams) -> None:
    """Raise AssemblyError for a disabled cache or an unknown order of eviction."""
    if params.disable:
        rule = "a hierarchical cache must be enabled"
        raise AssemblyError("cache", rule, expected="disable=False", got=True)
    if params.eviction_policy != "lru":
        rule = "eviction order must be known"
        raise AssemblyError("cache", rule, expected="lru", got=params.eviction_policy)


def validate_components(
    *, wanted: Iterable[ComponentType] | None, possible: Iterable[ComponentType]
) -> frozenset[ComponentType]:
    """Return the components of a cache; raise AssemblyError unless they are those of the pools.

    ``wanted`` is None for those of the pools.
    """
    if wanted is None:
        return frozenset(possible)
    if set(wanted) != set(possible):
        rule = "components must be those of the device pools"
        expected, got = (sorted(part.name for part in parts) for parts in (possible, wanted))
        raise AssemblyError("cache", rule, expected=expected, got=got)
    return frozenset(wanted)


def validate_state(
    slot: torch.Tensor | None, components: frozenset[ComponentType], *, of: str
) -> None:
    """Raise AssemblyError where the operation ``of`` has a state slot and the cache no states."""
    if slot is not None and ComponentType.MAMBA not in components:
        rule = "a state needs a cache that keeps states"
        raise AssemblyError(of, rule, expected="no slot of a state", got="one")


def validate_pool_coverage(
    *, group: HostPoolGroup, components: Iterable[ComponentType], specs: Iterable[SidecarPoolSpec]
) -> None:
    """Check that components and sidecars together are the pools of a group.

    Raises:
        AssemblyError: a pool would never be moved, or a component or sidecar has no pool.
    """
    moved = {POOL_OF_COMPONENT[component] for component in components}
    moved |= {spec.pool_name for spec in specs}
    for name in group.entry_map:
        if name not in moved:
            rule = "a pool of the group must move with the cache"
            expected = "a component or a registered sidecar"
            raise AssemblyError(name.name, rule, expected=expected, got="neither")
    for name in sorted(moved - set(group.entry_map)):
        rule = "a part of the cache must have a pool"
        raise AssemblyError(name.name, rule, expected="an entry", got="none")


def fix_direct_layout(server_args: ServerArgs) -> None:
    """Replace the layout ``page_first`` by ``page_first_direct`` for the io backend ``direct``.

    Changes ``server_args`` in place and logs a warning.

    Source: sglang 0.5.12 ``unified_radix_cache.py:298-336``.
    """
    moved = (server_args.hicache_io_backend, server_args.hicache_mem_layout)
    if moved == (IoBackend.DIRECT, HostLayout.PAGE_FIRST):
        server_args.hicache_mem_layout = HostLayout.PAGE_FIRST_DIRECT.value
        logger.warning(
            "the io backend direct cannot move the host layout page_first; "
            "using page_first_direct instead"
        )
