"""Stacks over device pools that a release has made itself, from the flags of a server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from traces.targets.sglang.callbacks import EvictionLog
from traces.targets.sglang.device_pools import SglangDevicePools, component_names
from traces.targets.sglang.drafts import prepare_staging
from traces.targets.sglang.entry_points import EntryCall, require_entry_point
from traces.targets.sglang.geometry import SglangGeometry, geometry_of
from traces.targets.sglang.rank_context import RankContext
from traces.targets.sglang.scenarios import NO_DRAFT, UNIFIED, SglangScenario
from traces.targets.sglang.signature_caller import SignatureCaller


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredStack:
    """A stack that was attached to a tree, with the pools that it is over."""

    cache: Any  # the tree
    group: Any  # host pools
    # Sets the tree's policy; None where the release has no function for it.
    complete_tree: Callable[[], None] | None
    page_size: int  # tokens a page as the tree sees it
    geometry: SglangGeometry  # layers of the model on this rank
    made: Mapping[str, Any]  # request table, allocator, and the pool that attention reads from


def attach_to_tree(
    scenario: SglangScenario, context: RankContext, *, made: Mapping[str, Any]
) -> ConfiguredStack:
    """Attach a stack to a tree over pools, by the release's own function for it.

    ``made`` are the request table, the allocator and the pool that attention reads from, in order.

    Raises:
        UnsupportedByRelease: the release has no such function.
        Exception: any error of the release.
    """
    requests, allocator, kvcache = made.values()
    caller, geometry = SignatureCaller(), geometry_of(scenario)
    pools = SglangDevicePools(
        geometry=geometry,
        kvcache=kvcache,
        allocator=allocator,
        full_allocator=allocator,
        req_to_token_pool=requests,
        components=component_names(
            is_windowed=geometry.family.is_windowed, has_states=bool(geometry.model.state_layers)
        ),
        pools={},
    )
    prepare_staging(caller, NO_DRAFT, kvcache, ())
    entry_call = EntryCall(
        scenario=replace(scenario, builder=UNIFIED),
        context=context,
        device_pools=pools,
        packed_drafts=(),
        draft_states=(),
        sidecar_drafts=(),
        caller=caller,
        evictions=EvictionLog(),
    )
    require_entry_point(entry_call.scenario)
    result = entry_call.call_entry_point()
    return ConfiguredStack(
        cache=result.cache,
        group=result.group,
        complete_tree=result.complete_tree,
        page_size=entry_call.page_size,
        geometry=geometry,
        made=made,
    )
