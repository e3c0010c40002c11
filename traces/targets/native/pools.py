"""Device side of a native scenario: pools, allocators and process groups of one rank."""

from dataclasses import dataclass, replace

import torch

from assembler.allocators.mamba import MambaSlotAllocator
from assembler.allocators.paged import PagedTokenToKVPoolAllocator
from assembler.allocators.requests import HybridReqToTokenPool
from assembler.allocators.swa import SWATokenToKVPoolAllocator
from assembler.allocators.token import TokenToKVPoolAllocator
from assembler.device.base import Device
from assembler.device_pools.base import KVCache
from assembler.device_pools.linear import HybridLinearKVPool
from assembler.device_pools.mamba import MambaPool
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.device_pools.nsa import NSATokenToKVPool, nsa_kv_cache_dim
from assembler.device_pools.swa import SWAKVPool
from assembler.groups import LocalGroup
from traces.targets.common.geometry import RankGeometry
from traces.targets.common.models import PoolFamily
from traces.targets.native.models import MODELS
from traces.targets.native.scenarios import GROUPS, INIT_HICACHE, NativeScenario

MAMBA_SLOTS = 5
PAGES = 11
SLOTS_AT_PAGE_SIZE_ONE = 72
# init_hicache loads nothing shorter than 256 tokens back.
LONG_NODES_SIZE = 1344
SWA_SHARE = 0.5
HOST_TO_DEVICE = 2.5
QUANT_BLOCK_SIZE = 128
INDEX_HEAD_DIM = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeGeometry(RankGeometry):
    """Sizes of one scenario's pools and nodes on one rank.

    Attributes:
        long_node: tokens of the longer kind of node.
        short_node: tokens of the shorter kind.
    """

    long_node: int
    short_node: int


def geometry_of(scenario: NativeScenario) -> NativeGeometry:
    """Derive the sizes of a scenario's pools."""
    model, groups = MODELS[scenario.model], GROUPS[scenario.groups]
    heads_share = groups.attn_tp_size or groups.tp_size
    # Sliding-window stages are numbered from zero whatever the stage (their pool has no offset).
    offset = 0 if model.family is PoolFamily.SWA else groups.pp_rank * model.layer_span
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


def draft_geometry(geometry: NativeGeometry) -> NativeGeometry:
    """Return the sizes of a draft pool: the target's rows, but no index keys of its own."""
    model = geometry.model
    if model.family is PoolFamily.NSA:
        is_packed = model.attention.dtype == "float8_e4m3fn"
        family = PoolFamily.PACKED_MLA if is_packed else PoolFamily.MLA
        return replace(geometry, model=replace(model, family=family))
    return geometry


def main_pool(
    geometry: NativeGeometry, *, layer_num: int, start_layer: int, device: Device
) -> MHATokenToKVPool | MLATokenToKVPool:
    """Build the pool of the full attention layers.

    Args:
        geometry: sizes; the family decides between MHA, MLA and NSA.
        layer_num: layers the pool holds.
        start_layer: global id of its first layer; 0 for a pool inside a hybrid one.
        device: where its buffers live.
    """
    attention, page_size, size = geometry.model.attention, geometry.page_size, geometry.size
    dtype: torch.dtype = getattr(torch, attention.dtype)
    end_layer = start_layer + layer_num - 1
    if attention.kv_heads:
        return MHATokenToKVPool(
            size=size,
            page_size=page_size,
            dtype=dtype,
            layer_num=layer_num,
            device=device,
            start_layer=start_layer,
            end_layer=end_layer,
            head_num=geometry.kv_heads,
            head_dim=attention.head_dim,
            v_head_dim=attention.v_head_dim,
        )
    width = nsa_kv_cache_dim(
        kv_lora_rank=attention.kv_lora_rank,
        qk_rope_head_dim=attention.qk_rope_head_dim,
        dtype=dtype,
        quant_block_size=QUANT_BLOCK_SIZE,
    )
    if geometry.model.family is PoolFamily.NSA:
        return NSATokenToKVPool(
            size=size,
            page_size=page_size,
            dtype=dtype,
            layer_num=layer_num,
            device=device,
            start_layer=start_layer,
            end_layer=end_layer,
            kv_lora_rank=attention.kv_lora_rank,
            qk_rope_head_dim=attention.qk_rope_head_dim,
            kv_cache_dim=width,
            index_head_dim=INDEX_HEAD_DIM,
            index_buf_size=size,
        )
    is_packed = geometry.model.family is PoolFamily.PACKED_MLA
    return MLATokenToKVPool(
        size=size,
        page_size=page_size,
        dtype=dtype,
        layer_num=layer_num,
        device=device,
        start_layer=start_layer,
        end_layer=end_layer,
        kv_lora_rank=attention.kv_lora_rank,
        qk_rope_head_dim=attention.qk_rope_head_dim,
        use_nsa=is_packed,
        override_kv_cache_dim=width if is_packed else None,
    )


def sliding_pool(geometry: NativeGeometry, *, device: Device) -> SWAKVPool:
    """Build the pool of a sliding-window hybrid: full and windowed sub-pools."""
    attention = geometry.model.attention
    return SWAKVPool(
        size=geometry.size,
        size_swa=sliding_size(geometry),
        page_size=geometry.page_size,
        dtype=getattr(torch, attention.dtype),
        head_num=geometry.kv_heads,
        head_dim=attention.head_dim,
        v_head_dim=attention.v_head_dim,
        swa_head_num=geometry.kv_heads,
        swa_head_dim=attention.head_dim,
        swa_v_head_dim=attention.v_head_dim,
        swa_attention_layer_ids=geometry.global_ids(geometry.model.swa_layers),
        full_attention_layer_ids=geometry.global_ids(geometry.model.full_layers),
        device=device,
    )


def sliding_size(geometry: NativeGeometry) -> int:
    """Return the slots of the windowed sub-pool: a share of the full one, whole pages."""
    pages = int(geometry.size * SWA_SHARE) // geometry.page_size
    return pages * geometry.page_size


def state_pool(geometry: NativeGeometry, *, device: Device) -> MambaPool:
    """Build the state pool of a linear-attention hybrid; one slot a request."""
    model = geometry.model
    return MambaPool(
        size=MAMBA_SLOTS,
        conv_shapes=model.conv_shapes,
        temporal_shape=model.temporal_shape,
        conv_dtype=torch.bfloat16,
        temporal_dtype=torch.float32,
        mamba_layer_ids=geometry.global_ids(model.state_layers),
        device=device,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeDevicePools:
    """Everything that exists on the device before a stack is built.

    Attributes:
        kvcache: the pool attention reads from; a wrapper for the hybrids.
        allocator: hands out its slots.
        req_to_token_pool: None unless the model has state.
    """

    kvcache: MHATokenToKVPool | MLATokenToKVPool | SWAKVPool | HybridLinearKVPool
    allocator: TokenToKVPoolAllocator | PagedTokenToKVPoolAllocator | SWATokenToKVPoolAllocator
    req_to_token_pool: HybridReqToTokenPool | None


def make_device_pools(geometry: NativeGeometry, *, device: Device) -> NativeDevicePools:
    """Build the pools and allocators a scenario's model needs."""
    match geometry.model.family:
        case PoolFamily.SWA:
            return _make_sliding_pools(geometry, device=device)
        case PoolFamily.LINEAR:
            return _make_linear_pools(geometry, device=device)
        case _:
            pool = main_pool(
                geometry,
                layer_num=len(geometry.model.full_layers),
                start_layer=geometry.start_layer,
                device=device,
            )
            allocator = _allocator(geometry, pool, device=device)
            return NativeDevicePools(kvcache=pool, allocator=allocator, req_to_token_pool=None)


def _allocator(
    geometry: NativeGeometry, kvcache: KVCache | HybridLinearKVPool, *, device: Device
) -> TokenToKVPoolAllocator | PagedTokenToKVPoolAllocator:
    dtype: torch.dtype = getattr(torch, geometry.model.attention.dtype)
    if geometry.page_size == 1:
        return TokenToKVPoolAllocator(
            size=geometry.size, dtype=dtype, device=device, kvcache=kvcache
        )
    return PagedTokenToKVPoolAllocator(
        size=geometry.size,
        page_size=geometry.page_size,
        dtype=dtype,
        device=device,
        kvcache=kvcache,
    )


def _make_sliding_pools(geometry: NativeGeometry, *, device: Device) -> NativeDevicePools:
    pool = sliding_pool(geometry, device=device)
    allocator = SWATokenToKVPoolAllocator(
        size=geometry.size,
        size_swa=sliding_size(geometry),
        page_size=geometry.page_size,
        dtype=getattr(torch, geometry.model.attention.dtype),
        device=device,
        kvcache=pool,
    )
    return NativeDevicePools(kvcache=pool, allocator=allocator, req_to_token_pool=None)


def _make_linear_pools(geometry: NativeGeometry, *, device: Device) -> NativeDevicePools:
    model = geometry.model
    pool = HybridLinearKVPool(
        full_kv_pool=main_pool(
            geometry, layer_num=len(model.full_layers), start_layer=0, device=device
        ),
        full_attention_layer_ids=geometry.global_ids(model.full_layers),
        start_layer=geometry.start_layer,
        end_layer=geometry.end_layer,
    )
    mamba_pool = state_pool(geometry, device=device)
    requests = HybridReqToTokenPool(
        size=MAMBA_SLOTS,
        mamba_pool=mamba_pool,
        mamba_allocator=MambaSlotAllocator(size=MAMBA_SLOTS, pool=mamba_pool, device=device),
        mamba_layer_ids=geometry.global_ids(model.state_layers),
        start_layer=geometry.start_layer,
        device=device,
    )
    return NativeDevicePools(
        kvcache=pool,
        allocator=_allocator(geometry, pool, device=device),
        req_to_token_pool=requests,
    )


def host_gigabytes(side: NativeDevicePools, geometry: NativeGeometry) -> float:
    """Return a host size, in decimal gigabytes, that outgrows every device pool."""
    declared = [(pool, geometry.size) for pool in side.kvcache.declared_geometry()]
    if side.req_to_token_pool is not None:
        states = side.req_to_token_pool.mamba_pool.declared_geometry()
        declared += [(pool, MAMBA_SLOTS) for pool in states]
    needed = [
        plane.row_bytes * pool.layer_num / pool.slots_per_row * slots * HOST_TO_DEVICE
        for pool, slots in declared
        for plane in pool.planes
    ]
    return round(sum(needed) / 1e9, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankGroups:
    """Process groups of the playing rank; None where the shape has no such group."""

    tp: LocalGroup
    attn_cp: LocalGroup | None
    attn_tp: LocalGroup | None


def rank_groups(scenario: NativeScenario) -> RankGroups:
    """Build the groups of the last rank of each: a rank of 0 would look like a default."""
    shape = GROUPS[scenario.groups]

    def group(tag: str, size: int) -> LocalGroup:
        return LocalGroup(tag=tag, ranks=tuple(range(size)), rank=size - 1)

    return RankGroups(
        tp=group("tp", shape.tp_size),
        attn_cp=group("attn_cp", shape.attn_cp_size) if shape.attn_cp_size else None,
        attn_tp=group("attn_tp", shape.attn_tp_size) if shape.attn_tp_size else None,
    )
