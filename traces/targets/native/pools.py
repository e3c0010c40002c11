"""Device side of a native scenario: pools, allocators and process groups of one rank."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from assembler.allocators.base import (
    MambaSlotAllocator,
    PagedTokenToKVPoolAllocator,
    TokenToKVPoolAllocator,
)
from assembler.allocators.requests import HybridReqToTokenPool
from assembler.allocators.swa import SWATokenToKVPoolAllocator
from assembler.device.base import Device
from assembler.device_pools.base import KVCache, SlotAllocator, TokenKVPool
from assembler.device_pools.linear import HybridLinearKVPool
from assembler.device_pools.mamba import MambaPool
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.device_pools.nsa import NSATokenToKVPool, nsa_kv_cache_dim
from assembler.device_pools.swa import SWAKVPool
from assembler.geometry import PoolLayers
from assembler.groups import LocalGroup
from assembler.host_pools.mirrored import MirroredPool
from assembler.names import ComponentType, PoolName
from assembler.params import KVSlotAllocator
from traces.targets.common.geometry import RankGeometry
from traces.targets.common.models import PoolFamily
from traces.targets.native.family import TokenPoolArguments
from traces.targets.native.models import ENTRIES, MODELS
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
    """Sizes of one scenario's pools and nodes on one rank; nodes have two lengths, in tokens."""

    long_node: int
    short_node: int


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


def make_token_pool(
    geometry: NativeGeometry, family: PoolFamily, *, layers: PoolLayers, device: Device
) -> TokenKVPool:
    """Build the pool of full-attention layers, numbered from 0 in a hybrid pool, or of a draft."""
    return TOKEN_POOLS[family](
        geometry,
        TokenPoolArguments(
            size=geometry.size,
            page_size=geometry.page_size,
            dtype=getattr(torch, geometry.model.attention.dtype),
            layer_num=layers.layer_num,
            start_layer=layers.start_layer,
            end_layer=layers.end_layer,
            device=device,
        ),
    )


def consecutive_layers(layer_num: int, *, start_layer: int) -> PoolLayers:
    """Return ``layer_num`` layers from ``start_layer`` on."""
    return PoolLayers(
        layer_num=layer_num, start_layer=start_layer, end_layer=start_layer + layer_num - 1
    )


def _mha_pool(geometry: RankGeometry, shared: TokenPoolArguments) -> TokenKVPool:
    attention = geometry.model.attention
    return MHATokenToKVPool(
        head_num=geometry.kv_heads,
        head_dim=attention.head_dim,
        v_head_dim=attention.v_head_dim,
        **shared,
    )


def _mla_pool(
    geometry: RankGeometry, shared: TokenPoolArguments, *, packs_fp8: bool
) -> TokenKVPool:
    attention = geometry.model.attention
    is_packed = packs_fp8 and shared["dtype"] == torch.float8_e4m3fn
    return MLATokenToKVPool(
        kv_lora_rank=attention.kv_lora_rank,
        qk_rope_head_dim=attention.qk_rope_head_dim,
        use_nsa=is_packed,
        override_kv_cache_dim=_latent_width(geometry) if is_packed else None,
        **shared,
    )


def _nsa_pool(geometry: RankGeometry, shared: TokenPoolArguments) -> TokenKVPool:
    attention = geometry.model.attention
    return NSATokenToKVPool(
        kv_lora_rank=attention.kv_lora_rank,
        qk_rope_head_dim=attention.qk_rope_head_dim,
        kv_cache_dim=_latent_width(geometry),
        index_head_dim=INDEX_HEAD_DIM,
        index_buf_size=geometry.size,
        **shared,
    )


def _latent_width(geometry: RankGeometry) -> int:
    attention = geometry.model.attention
    return nsa_kv_cache_dim(
        kv_lora_rank=attention.kv_lora_rank,
        qk_rope_head_dim=attention.qk_rope_head_dim,
        dtype=getattr(torch, attention.dtype),
        quant_block_size=QUANT_BLOCK_SIZE,
    )


TOKEN_POOLS: dict[PoolFamily, Callable[[RankGeometry, TokenPoolArguments], TokenKVPool]] = {
    PoolFamily.MHA: _mha_pool,
    PoolFamily.MLA: partial(_mla_pool, packs_fp8=False),
    PoolFamily.PACKED_MLA: partial(_mla_pool, packs_fp8=True),
    PoolFamily.NSA: _nsa_pool,
    **{family: entry.make_pool for family, entry in ENTRIES.items()},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeDevicePools:
    """Everything that exists on the device before a stack is built.

    Attributes:
        kvcache: the pool attention reads from; a wrapper for the hybrids.
        req_to_token_pool: None unless the model has state.
    """

    kvcache: KVCache
    allocator: KVSlotAllocator
    req_to_token_pool: HybridReqToTokenPool | None = None

    @property
    def mirrored(self) -> dict[PoolName, MirroredPool]:
        """Everything that a stack must mirror, by name: pools with slots of their own first."""
        requests = self.req_to_token_pool
        pools = self.kvcache.mirrored() + (() if requests is None else requests.mirrored())
        ordered = sorted(pools, key=lambda pool: not pool.owns_slots)
        return {pool.geometry.pool: pool for pool in ordered}

    @property
    def slot_owners(self) -> dict[ComponentType, SlotAllocator]:
        """Allocator of the device slots of each component."""
        owners: dict[ComponentType, SlotAllocator] = dict(self.allocator.slot_owners)
        if self.req_to_token_pool is not None:
            owners[ComponentType.MAMBA] = self.req_to_token_pool.mamba_allocator
        return owners


def make_device_pools(geometry: NativeGeometry, *, device: Device) -> NativeDevicePools:
    """Build the pools and allocators a scenario's model needs."""
    model = geometry.model
    if model.state_layers:
        return _make_linear_pools(geometry, device=device)
    if model.swa_layers:
        return _make_sliding_pools(geometry, device=device)
    layers = consecutive_layers(len(model.full_layers), start_layer=geometry.start_layer)
    pool = make_token_pool(geometry, model.family, layers=layers, device=device)
    return NativeDevicePools(kvcache=pool, allocator=_allocator(geometry, pool, device=device))


def _allocator(geometry: NativeGeometry, kvcache: KVCache, *, device: Device) -> KVSlotAllocator:
    dtype: torch.dtype = getattr(torch, geometry.model.attention.dtype)
    size, page_size = geometry.size, geometry.page_size
    if page_size == 1:
        return TokenToKVPoolAllocator(size=size, dtype=dtype, device=device, kvcache=kvcache)
    return PagedTokenToKVPoolAllocator(
        size=size, page_size=page_size, dtype=dtype, device=device, kvcache=kvcache
    )


def _make_sliding_pools(geometry: NativeGeometry, *, device: Device) -> NativeDevicePools:
    """Build full and windowed sub-pools; the windowed one has a share of the slots, whole pages."""
    attention, page_size = geometry.model.attention, geometry.page_size
    size_swa = int(geometry.size * SWA_SHARE) // page_size * page_size
    dtype: torch.dtype = getattr(torch, attention.dtype)
    pool = SWAKVPool(
        size=geometry.size,
        size_swa=size_swa,
        page_size=page_size,
        dtype=dtype,
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
    allocator = SWATokenToKVPoolAllocator(
        size=geometry.size,
        size_swa=size_swa,
        page_size=page_size,
        dtype=dtype,
        device=device,
        kvcache=pool,
    )
    return NativeDevicePools(kvcache=pool, allocator=allocator)


def _make_linear_pools(geometry: NativeGeometry, *, device: Device) -> NativeDevicePools:
    """Build the pools of attention and of states; a request has one slot of states."""
    model = geometry.model
    state_layers = geometry.global_ids(model.state_layers)
    pool = HybridLinearKVPool(
        full_kv_pool=make_token_pool(
            geometry,
            PoolFamily.MHA if model.attention.kv_heads else PoolFamily.MLA,
            layers=consecutive_layers(len(model.full_layers), start_layer=0),
            device=device,
        ),
        full_attention_layer_ids=geometry.global_ids(model.full_layers),
        start_layer=geometry.start_layer,
        end_layer=geometry.end_layer,
    )
    mamba_pool = MambaPool(
        size=MAMBA_SLOTS,
        conv_shapes=model.conv_shapes,
        temporal_shape=model.temporal_shape,
        conv_dtype=torch.bfloat16,
        temporal_dtype=torch.float32,
        mamba_layer_ids=state_layers,
        device=device,
    )
    requests = HybridReqToTokenPool(
        size=MAMBA_SLOTS,
        mamba_pool=mamba_pool,
        mamba_allocator=MambaSlotAllocator(size=MAMBA_SLOTS, pool=mamba_pool, device=device),
        mamba_layer_ids=state_layers,
        start_layer=geometry.start_layer,
        device=device,
    )
    allocator = _allocator(geometry, pool, device=device)
    return NativeDevicePools(kvcache=pool, allocator=allocator, req_to_token_pool=requests)


def host_gigabytes(side: NativeDevicePools, geometry: NativeGeometry) -> float:
    """Return a host size, in decimal gigabytes, that outgrows every device pool."""
    needed = 0.0
    for pool in side.mirrored.values():
        slots = MAMBA_SLOTS if pool.component is ComponentType.MAMBA else geometry.size
        needed += pool.geometry.bytes_per_row / pool.geometry.slots_per_row * slots
    return round(needed * HOST_TO_DEVICE / 1e9, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankGroups:
    """Process groups of the recorded rank; None where the shape has no such group."""

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
