"""Where a native stack keeps its rows: buffers of device and host pools by pool name."""

from collections.abc import Iterator

import torch

from assembler import HostPoolGroup, PoolName
from assembler.device_pools.linear import HybridLinearKVPool
from assembler.device_pools.mamba import MambaPool
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.device_pools.nsa import NSATokenToKVPool
from assembler.device_pools.swa import SWAKVPool
from assembler.host_pools.base import HostKVCache
from traces.targets.content import RowBuffer
from traces.targets.native_pools import DeviceSide


def device_pools(side: DeviceSide) -> dict[PoolName, object]:
    """Return the pools that own device buffers, by the name their host pool has."""
    kvcache = side.kvcache
    pools: dict[PoolName, object] = {}
    match kvcache:
        case SWAKVPool():
            pools[PoolName.KV], pools[PoolName.SWA] = kvcache.full_kv_pool, kvcache.swa_kv_pool
        case HybridLinearKVPool():
            pools[PoolName.KV] = kvcache.full_kv_pool
        case _:
            pools[PoolName.KV] = kvcache
    if side.req_to_token_pool is not None:
        pools[PoolName.MAMBA] = side.req_to_token_pool.mamba_pool
    return pools


def host_pools(group: HostPoolGroup) -> dict[PoolName, HostKVCache]:
    """Return the host pools of a group by name."""
    return {entry.name: entry.host_pool for entry in group.entries}


def row_buffers(pools: dict[PoolName, object]) -> dict[PoolName, list[RowBuffer]]:
    """Return the rows of every plane and layer; index keys come under ``INDEXER``."""
    buffers = {name: list(_rows(name, pool)) for name, pool in pools.items()}
    kv_pool = pools[PoolName.KV]
    if isinstance(kv_pool, NSATokenToKVPool):
        index = kv_pool.index_k_with_scale_buffer
        buffers[PoolName.INDEXER] = list(
            _layers(PoolName.INDEXER, "index_k", index, slots_per_row=kv_pool.page_size)
        )
    return buffers


def tensors_of(pool: object) -> Iterator[torch.Tensor]:
    """Yield the data buffers of a pool: its public tensor attributes, in order."""
    for name, value in vars(pool).items():
        if name.startswith("_"):
            continue
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from (item for item in value if isinstance(item, torch.Tensor))


def _rows(name: PoolName, pool: object) -> Iterator[RowBuffer]:
    match pool:
        case MHATokenToKVPool():
            yield from _layers(name, "k", pool.k_buffer, slots_per_row=1)
            yield from _layers(name, "v", pool.v_buffer, slots_per_row=1)
        case MLATokenToKVPool():
            yield from _layers(name, "kv", pool.kv_buffer, slots_per_row=1)
        case MambaPool():
            yield from _layers(name, "temporal", list(pool.temporal), slots_per_row=1)
            for number, conv in enumerate(pool.conv):
                yield from _layers(name, f"conv_{number}", list(conv), slots_per_row=1)
        case _:
            raise TypeError(f"device pool: a pool with known rows; got {type(pool).__name__}")


def _layers(
    name: PoolName, plane: str, tensors: list[torch.Tensor], *, slots_per_row: int
) -> Iterator[RowBuffer]:
    for layer, tensor in enumerate(tensors):
        yield RowBuffer(
            label=f"{name.name}.{plane}[{layer}]", tensor=tensor, slots_per_row=slots_per_row
        )
