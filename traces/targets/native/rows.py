"""Where a native stack keeps its rows: buffers of device and host pools by pool name."""

from collections.abc import Iterator, Sequence

import torch

from assembler import HostPoolGroup, PoolName
from assembler.device_pools.linear import HybridLinearKVPool
from assembler.device_pools.mamba import MambaPool
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.device_pools.nsa import NSATokenToKVPool
from assembler.device_pools.swa import SWAKVPool
from assembler.host_pools.base import HostKVCache
from traces.targets.common.content import RowBuffer
from traces.targets.common.models import ModelShape
from traces.targets.native.pools import NativeDevicePools


def device_pools_by_name(side: NativeDevicePools) -> dict[PoolName, object]:
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


def host_pools_by_name(group: HostPoolGroup) -> dict[PoolName, HostKVCache]:
    """Return the host pools of a group by name."""
    return {entry.name: entry.host_pool for entry in group.entries}


def row_buffers(
    pools: dict[PoolName, object], *, model: ModelShape
) -> dict[PoolName, list[RowBuffer]]:
    """Return the rows of every plane and layer; index keys come under ``INDEXER``."""
    layers = {
        PoolName.KV: model.full_layers,
        PoolName.SWA: model.swa_layers,
        PoolName.MAMBA: model.state_layers,
        PoolName.DRAFT: (0,),
    }
    buffers = {name: list(_rows(name, pool, layers[name])) for name, pool in pools.items()}
    kv_pool = pools[PoolName.KV]
    if isinstance(kv_pool, NSATokenToKVPool):
        index = kv_pool.index_k_with_scale_buffer
        buffers[PoolName.INDEXER] = list(
            _layers(
                PoolName.INDEXER,
                "index_k",
                model.full_layers,
                index,
                slots_per_row=kv_pool.page_size,
            )
        )
    return buffers


def tensors_of(pool: object) -> Iterator[torch.Tensor]:
    """Yield the data buffers of a pool: its public tensor attributes, in order of their names."""
    for name, value in sorted(vars(pool).items()):
        if name.startswith("_"):
            continue
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from (item for item in value if isinstance(item, torch.Tensor))


def _rows(name: PoolName, pool: object, layers: tuple[int, ...]) -> Iterator[RowBuffer]:
    def plane(label: str, tensors: Sequence[torch.Tensor]) -> Iterator[RowBuffer]:
        return _layers(name, label, layers, tensors, slots_per_row=1)

    match pool:
        case MHATokenToKVPool():
            yield from plane("k", pool.k_buffer)
            yield from plane("v", pool.v_buffer)
        case MLATokenToKVPool():
            yield from plane("kv", pool.kv_buffer)
        case MambaPool():
            yield from plane("temporal", list(pool.temporal))
            for number, conv in enumerate(pool.conv):
                yield from plane(f"conv_{number}", list(conv))
        case _:
            raise TypeError(f"device pool: a pool with known rows; got {type(pool).__name__}")


def _layers(
    pool: PoolName,
    plane: str,
    layers: tuple[int, ...],
    tensors: Sequence[torch.Tensor],
    *,
    slots_per_row: int,
) -> Iterator[RowBuffer]:
    for index, (layer, tensor) in enumerate(zip(layers, tensors, strict=True)):
        yield RowBuffer(
            pool=pool.name,
            plane=plane,
            label=f"{pool.name}.{plane}[{index}]",
            layer=layer,
            tensor=tensor,
            slots_per_row=slots_per_row,
        )
