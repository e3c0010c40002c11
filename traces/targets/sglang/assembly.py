"""Assembly of the stack of a scenario by the installed release."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from traces.targets.sglang.callbacks import EvictionLog
from traces.targets.sglang.device_pools import DevicePoolBuilder, tensor_bytes
from traces.targets.sglang.discovery import find_class, installed_release
from traces.targets.sglang.drafts import (
    draft_pools,
    draft_states,
    prepare_staging,
    register_sidecar_draft,
)
from traces.targets.sglang.entry_points import EntryCall, EntryResult, require_entry_point
from traces.targets.sglang.errors import UnsupportedByRelease
from traces.targets.sglang.families import FAMILY_OF
from traces.targets.sglang.geometry import geometry_of
from traces.targets.sglang.hisparse_scenarios import HisparseScenario
from traces.targets.sglang.pool_variants import PLAIN, PoolVariant, pool_variants
from traces.targets.sglang.product_rows import OWN_POOL, ProductRow
from traces.targets.sglang.rank_context import HOST_TO_DEVICE, RankContexts
from traces.targets.sglang.scenarios import PACKED_DRAFT, SIDECAR_DRAFT, SglangScenario
from traces.targets.sglang.signature_caller import SignatureCaller
from traces.targets.sglang.staging import short_staging

_OWN_SLOTS = ("KV", "SWA", "MAMBA")


@dataclass(frozen=True, slots=True, kw_only=True)
class AssembledStack:
    """A stack of the release, with everything its script needs."""

    scenario: SglangScenario
    cache: Any  # the tree, or a substitute with its attributes; None for a builder
    group: Any  # host pools; a single host pool where the release has no group for it
    controller: Any  # moves rows between device and host
    # Sets the tree's policy where the entry point does not; None where the release has no function
    # for it.
    complete_tree: Callable[[], None] | None
    # Pools without slots of their own, with the pool whose slots they follow; packed drafts
    # included, which have no host pool of their own.
    sidecars: tuple[tuple[str, str], ...]
    kvcache: Any
    full_allocator: Any  # hands out KV slots
    allocator: Any
    device_pools: dict[str, Any]  # pools that hold rows, by the upper-case name of their host pool
    req_to_token_pool: Any
    page_size: int  # tokens a page as the controller sees it
    window: int  # tokens of a sliding window
    draft_pools: tuple[Any, ...]  # pools of the draft, in order of depth
    pool_transfer: Any  # the release's class of a sidecar's part in a transfer; None without one
    dropped: tuple[str, ...]  # arguments that change bytes and that the release never took
    evictions: EvictionLog  # records the evictions that full pools request


def assemble(
    scenario: SglangScenario,
    *,
    ranks: RankContexts,
    device: str,
    flags: Mapping[str, Any] | None = None,
) -> AssembledStack:
    """Assemble a scenario's stack; the previous one's rank context is closed first.

    ``flags`` are further server arguments.

    Raises:
        UnsupportedByRelease: the release lacks something, decided before calling it.
        Exception: any error of the release itself; it is a finding.
    """
    require_entry_point(scenario)
    entry_call = prepare_entry(scenario, ranks=ranks, device=device, flags=flags)
    drafts = entry_call.drafts
    with short_staging():
        prepare_staging(entry_call.caller, scenario.draft, entry_call.device_pools.kvcache, drafts)
        result = entry_call.call_entry_point()
        if entry_call.sidecar_drafts:
            (pool,) = drafts
            register_sidecar_draft(
                entry_call.caller,
                entry_call.context,
                cache=result.cache,
                pool=pool,
                page_size=entry_call.page_size,
            )
    return _assembled_stack(result, entry_call)


def prepare_entry(
    scenario: SglangScenario,
    *,
    ranks: RankContexts,
    device: str,
    flags: Mapping[str, Any] | None = None,
) -> EntryCall:
    """Open a rank's context and build what an entry point is called with: see :func:`assemble`."""
    caller, evictions = SignatureCaller(), EvictionLog()
    variant = _variant_of(scenario)
    flags = {**variant.flags, **(flags or {})}
    builder = DevicePoolBuilder(caller, device, variant)
    context = ranks.open(scenario, host_gigabytes=0, device=device, flags=flags)
    other_class = scenario.pool_class if isinstance(scenario, ProductRow | HisparseScenario) else ""
    geometry = geometry_of(scenario, pool_class=other_class)
    if scenario.draft == PACKED_DRAFT and geometry.dcp_size > 1:
        # Servers refuse this: the rows of packed drafts would be moved by the numbers of one rank.
        raise UnsupportedByRelease("no server packs drafts under decode context parallelism")
    pools = builder.build(geometry)
    kind = scenario.draft_pool if isinstance(scenario, ProductRow) else OWN_POOL
    drafts = draft_pools(scenario.draft, builder, pools, pool=kind)
    states = draft_states(scenario.draft, builder, pools, pool=kind)
    if scenario.sizing == "gb":
        # Packed drafts take their share of the same budget.
        needed = tensor_bytes(pools) * HOST_TO_DEVICE * (1 + len(drafts))
        gigabytes = round(needed / 1e9, 6)
        context = ranks.open(scenario, host_gigabytes=gigabytes, device=device, flags=flags)
    return EntryCall(
        scenario=scenario,
        context=context,
        device_pools=pools,
        packed_drafts=drafts if scenario.draft == PACKED_DRAFT else (),
        draft_states=states,
        sidecar_drafts=drafts if scenario.draft == SIDECAR_DRAFT else (),
        caller=caller,
        evictions=evictions,
    )


def _variant_of(scenario: SglangScenario) -> PoolVariant:
    if isinstance(scenario, HisparseScenario):
        allocator = find_class("HiSparseTokenToKVPoolAllocator")
        return PoolVariant(arguments=scenario.pool_arguments, allocator_class=allocator)
    name = scenario.variant if isinstance(scenario, ProductRow) else ""
    return pool_variants(FAMILY_OF[scenario.model].pool_class).get(name, PLAIN) if name else PLAIN


def _assembled_stack(result: EntryResult, entry_call: EntryCall) -> AssembledStack:
    device_pools, drafts = entry_call.device_pools, entry_call.drafts
    is_indexed = "INDEXER" in device_pools.pools
    named = _named_drafts(drafts, entry_call.draft_states, is_indexed=is_indexed)
    follows = {"DRAFT_SWA": "SWA", "DRAFT_MAMBA": "MAMBA"}
    followers = [
        (name, pool)
        for name in named
        for prefix, pool in follows.items()
        if name.startswith(prefix)
    ]
    return AssembledStack(
        scenario=entry_call.scenario,
        cache=result.cache,
        group=result.group,
        controller=result.controller,
        complete_tree=result.complete_tree,
        sidecars=tuple(dict([*followers, *_sidecars(result)]).items()),
        kvcache=device_pools.kvcache,
        full_allocator=device_pools.full_allocator,
        allocator=device_pools.allocator,
        device_pools={**device_pools.pools, **named},
        req_to_token_pool=device_pools.req_to_token_pool,
        page_size=entry_call.page_size,
        window=device_pools.geometry.window,
        draft_pools=drafts,
        pool_transfer=installed_release().find("PoolTransfer"),
        dropped=tuple(entry_call.caller.dropped),
        evictions=entry_call.evictions,
    )


def _named_drafts(
    drafts: tuple[Any, ...], states: tuple[Any, ...], *, is_indexed: bool
) -> dict[str, Any]:
    """Return the pools of drafts that hold rows, by names like those of their host pools."""
    named: dict[str, Any] = {}
    for depth, pool in enumerate(drafts):
        suffix = f"_{depth}" if depth else ""
        windows = getattr(pool, "swa_kv_pool", None)
        if windows is not None and windows.layer_num:
            named[f"DRAFT_SWA{suffix}"] = windows
            continue
        named[f"DRAFT{suffix}"] = getattr(pool, "full_kv_pool", pool)
        if is_indexed:
            named[f"DRAFT_INDEXER{suffix}"] = pool
    for depth, pool in enumerate(states):
        named[f"DRAFT_MAMBA_{depth}" if depth else "DRAFT_MAMBA"] = pool
    return named


def _sidecars(result: EntryResult) -> tuple[tuple[str, str], ...]:
    """Return the pools that follow another pool's slots: by the tree's specs, else by names."""
    specs = getattr(result.cache, "sidecar_pool_specs", None)
    if specs is not None:
        return tuple((_upper(spec.pool_name), _upper(spec.indices_from_pool)) for spec in specs)
    return tuple(
        (name, "SWA" if "STATE" in name or name.endswith("_SWA") else "KV")
        for name in entries_of(result.group)
        if name not in _OWN_SLOTS
    )


def entries_of(group: Any) -> dict[str, Any]:  # noqa: ANN401 - host pools of the release
    """Return the entries of a group by upper-case pool name; none for a single host pool."""
    return {_upper(entry.name): entry for entry in getattr(group, "entries", ())}


def _upper(name: Any) -> str:  # noqa: ANN401 - an enumeration of the release
    return str(name.value).upper()
