"""The device side of a native scenario: pools of a model's rows, and the allocators of slots."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypedDict

import torch

from assembler.allocators.base import PagedTokenToKVPoolAllocator, TokenToKVPoolAllocator
from assembler.allocators.requests import HybridReqToTokenPool
from assembler.device.base import Device
from assembler.device_pools.base import KVCache, SlotAllocator, TokenKVPool
from assembler.geometry import PoolLayers
from assembler.host_pools.mirrored import MirroredPool
from assembler.names import ComponentType, PoolName
from assembler.params import KVSlotAllocator
from traces.targets.common.geometry import RankGeometry


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeGeometry(RankGeometry):
    """Sizes of one scenario's pools and nodes on one rank; nodes have two lengths, in tokens."""

    long_node: int
    short_node: int

    @property
    def dtype(self) -> torch.dtype:
        """Type of the KV rows."""
        dtype: torch.dtype = getattr(torch, self.model.attention.dtype)
        return dtype


class TokenPoolArguments(TypedDict):
    """Arguments that the constructor of every token pool takes under the same name."""

    size: int
    page_size: int
    dtype: torch.dtype
    layer_num: int
    start_layer: int
    end_layer: int
    device: Device


MakeTokenPool: TypeAlias = Callable[[NativeGeometry, TokenPoolArguments], TokenKVPool]


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


def make_token_pool(
    geometry: NativeGeometry, make_pool: MakeTokenPool, *, layers: PoolLayers, device: Device
) -> TokenKVPool:
    """Build the pool of full-attention layers, numbered from 0 in a hybrid pool, or of a draft."""
    return make_pool(
        geometry,
        TokenPoolArguments(
            size=geometry.size,
            page_size=geometry.page_size,
            dtype=geometry.dtype,
            layer_num=layers.layer_num,
            start_layer=layers.start_layer,
            end_layer=layers.end_layer,
            device=device,
        ),
    )


def make_token_side(
    geometry: NativeGeometry, make_pool: MakeTokenPool, *, device: Device
) -> NativeDevicePools:
    """Build the pool of a model whose layers are all alike, and its allocator."""
    layers = consecutive_layers(len(geometry.model.full_layers), start_layer=geometry.start_layer)
    pool = make_token_pool(geometry, make_pool, layers=layers, device=device)
    return NativeDevicePools(kvcache=pool, allocator=make_allocator(geometry, pool, device=device))


def consecutive_layers(layer_num: int, *, start_layer: int) -> PoolLayers:
    """Return ``layer_num`` layers from ``start_layer`` on."""
    return PoolLayers(
        layer_num=layer_num, start_layer=start_layer, end_layer=start_layer + layer_num - 1
    )


def make_allocator(
    geometry: NativeGeometry, kvcache: KVCache, *, device: Device
) -> KVSlotAllocator:
    """Return the allocator of a pool without windows."""
    size, page_size, dtype = geometry.size, geometry.page_size, geometry.dtype
    if page_size == 1:
        return TokenToKVPoolAllocator(size=size, dtype=dtype, device=device, kvcache=kvcache)
    return PagedTokenToKVPoolAllocator(
        size=size, page_size=page_size, dtype=dtype, device=device, kvcache=kvcache
    )
