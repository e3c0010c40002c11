"""Rows of host pools by the documented shapes, read without the code that moves them."""

import torch

from assembler.host_pools.base import HostKVCache
from assembler.names import HostLayout


def host_content(pool: HostKVCache, slots: torch.Tensor) -> list[torch.Tensor]:
    """Return the bytes of some slots, ``(rows, bytes of a row) uint8`` by plane and layer.

    The order is that of :func:`traces.targets.native.rows.row_buffers`.
    """
    rows = slots[:: pool.slots_per_row] // pool.slots_per_row
    return [
        _bytes_of(_rows(pool, pool.plane_buffer(plane.name), rows, layer))
        for plane in pool.planes
        for layer in range(pool.layer_num)
    ]


def _rows(pool: HostKVCache, buffer: torch.Tensor, rows: torch.Tensor, layer: int) -> torch.Tensor:
    if pool.layout is HostLayout.LAYER_FIRST:
        return buffer[layer][rows]
    if pool.layout is HostLayout.PAGE_FIRST:
        return buffer[rows, layer]
    rows_per_page = pool.page_size // pool.slots_per_row
    pages, offsets = rows // rows_per_page, rows % rows_per_page
    if pool.layout is HostLayout.PAGE_HEAD:
        return buffer[pages, :, offsets, layer]
    return buffer[pages, layer, offsets]


def _bytes_of(rows: torch.Tensor) -> torch.Tensor:
    return rows.contiguous().reshape(rows.shape[0], -1).view(torch.uint8)
