"""Reads rows out of host pools by the documented shapes, without the code that moves them."""

import torch

from assembler.host_pools.base import HostKVCache
from assembler.host_pools.indexer import NSAIndexerPoolHost
from assembler.host_pools.mamba import MambaPoolHost
from assembler.host_pools.mha import MHATokenToKVPoolHost
from assembler.host_pools.mla import MLATokenToKVPoolHost
from assembler.names import HostLayout


def host_content(pool: HostKVCache, slots: torch.Tensor) -> list[torch.Tensor]:
    """Return the bytes of some slots, ``(rows, bytes of a row) uint8`` by plane and layer.

    The order is that of :func:`traces.targets.native.rows.row_buffers`.
    """
    return [
        _bytes_of(_rows(pool, buffer, slots, layer))
        for buffer in _planes(pool)
        for layer in range(pool.layer_num)
    ]


def _planes(pool: HostKVCache) -> list[torch.Tensor]:
    match pool:
        case MHATokenToKVPoolHost():
            return [pool.k_buffer, pool.v_buffer]
        case MLATokenToKVPoolHost():
            return [pool.kv_buffer]
        case MambaPoolHost():
            return [pool.temporal_buffer, *pool.conv_buffer]
        case NSAIndexerPoolHost():
            return [pool.index_k_with_scale_buffer]
        case _:
            raise TypeError(f"host pool: a pool with known rows; got {type(pool).__name__}")


def _rows(pool: HostKVCache, buffer: torch.Tensor, slots: torch.Tensor, layer: int) -> torch.Tensor:
    if isinstance(pool, NSAIndexerPoolHost):
        slots = slots[:: pool.page_size] // pool.page_size
    if pool.layout is HostLayout.LAYER_FIRST:
        return buffer[layer][slots]
    if pool.layout is HostLayout.PAGE_FIRST or isinstance(pool, NSAIndexerPoolHost | MambaPoolHost):
        return buffer[slots, layer]
    pages, offsets = slots // pool.page_size, slots % pool.page_size
    if pool.layout is HostLayout.PAGE_HEAD:
        return buffer[pages, :, offsets, layer]
    return buffer[pages, layer, offsets]


def _bytes_of(rows: torch.Tensor) -> torch.Tensor:
    return rows.contiguous().reshape(rows.shape[0], -1).view(torch.uint8)
