"""Sizes and process groups of a native scenario on one rank."""

from dataclasses import dataclass

from assembler.groups import LocalGroup, ProcessGroup
from assembler.names import ComponentType
from traces.targets.native.device_side import NativeDevicePools, NativeGeometry
from traces.targets.native.models import MODELS
from traces.targets.native.scenarios import GROUPS, INIT_HICACHE, NativeScenario

PAGES = 11
SLOTS_AT_PAGE_SIZE_ONE = 72
# init_hicache loads nothing shorter than 256 tokens back.
LONG_NODES_SIZE = 1344
HOST_TO_DEVICE = 2.5


def geometry_of(scenario: NativeScenario) -> NativeGeometry:
    """Derive the sizes of a scenario's pools."""
    model, groups = MODELS[scenario.model], GROUPS[scenario.groups]
    heads_share = groups.attn_tp_size or groups.tp_size
    # Sliding-window stages are numbered from zero whatever the stage (their pool has no offset).
    offset = 0 if model.swa_layers else groups.pp_rank * model.layer_span
    size, long_node, short_node = _slots(scenario)
    return NativeGeometry(
        model=model,
        page_size=scenario.page_size,
        size=size,
        start_layer=offset,
        kv_heads=max(1, model.attention.kv_heads // heads_share),
        long_node=long_node,
        short_node=short_node,
    )


def _slots(scenario: NativeScenario) -> tuple[int, int, int]:
    """Return device slots, tokens of a long node, tokens of a short node."""
    page_size = scenario.page_size
    if scenario.builder in INIT_HICACHE:
        return LONG_NODES_SIZE, 320, 256
    if page_size == 1:
        return SLOTS_AT_PAGE_SIZE_ONE, 8, 4
    return PAGES * page_size, 2 * page_size, page_size


def host_gigabytes(side: NativeDevicePools, geometry: NativeGeometry) -> float:
    """Return a host size, in decimal gigabytes, that outgrows every device pool."""
    needed = 0.0
    for pool in side.mirrored.values():
        is_state = pool.component is ComponentType.MAMBA
        slots = pool.device_pool.size if is_state else geometry.size
        needed += pool.geometry.bytes_per_row / pool.geometry.slots_per_row * slots
    return round(needed * HOST_TO_DEVICE / 1e9, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankGroups:
    """Process groups of the recorded rank; None where the shape has no such group."""

    tp: ProcessGroup
    attn_cp: ProcessGroup | None
    attn_tp: ProcessGroup | None
    pp: ProcessGroup | None


def rank_groups(scenario: NativeScenario) -> RankGroups:
    """Build the groups of the last rank of each: a rank of 0 would look like a default."""
    shape = GROUPS[scenario.groups]

    def group(tag: str, size: int) -> LocalGroup:
        return LocalGroup(tag=tag, ranks=tuple(range(size)), rank=size - 1)

    members = range(shape.tp_size - 1, shape.pp_size * shape.tp_size, shape.tp_size)
    stages = LocalGroup(tag="pp", ranks=tuple(members), rank=shape.pp_rank)
    return RankGroups(
        tp=group("tp", shape.tp_size),
        attn_cp=group("attn_cp", shape.attn_cp_size) if shape.attn_cp_size else None,
        attn_tp=group("attn_tp", shape.attn_tp_size) if shape.attn_tp_size else None,
        pp=stages if shape.pp_size > 1 else None,
    )
