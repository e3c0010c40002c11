"""Base of the host pools whose smallest row is a page: index pages and recurrent states."""

import torch
from typing_extensions import override

from assembler.geometry import PlaneGeometry
from assembler.host_pools.base import HostKVCache
from assembler.names import HostLayout
from assembler.transfer.rows import PageRows, RowMap


class PageHostPool(HostKVCache):
    """One row a page and layer of every plane.

    Buffers are ``(layer_num, row_num, *row)`` for ``layer_first``, else
    ``(row_num, layer_num, 1, *row)``: with one row a page both page layouts are the same.
    """

    @property
    @override
    def row_map(self) -> RowMap:
        if self.slots_per_row == 1:
            return RowMap()
        return PageRows(subject=type(self).__name__, page_size=self.page_size)

    def _new_buffer(self, plane: PlaneGeometry, *, row_num: int) -> torch.Tensor:
        if self.layout is HostLayout.LAYER_FIRST:
            return self._empty((self.layer_num, row_num, *plane.row_shape), plane.dtype)
        return self._empty((row_num, self.layer_num, 1, *plane.row_shape), plane.dtype)

    @override
    def _layer_rows(self, buffer: torch.Tensor, layer: int) -> torch.Tensor:
        # A view with a stride of all layers: neighbouring pages of a layer do not touch here.
        return buffer[layer] if self.layout is HostLayout.LAYER_FIRST else buffer[:, layer, 0]

    @override
    def _device_rows(self, buffer: torch.Tensor) -> torch.Tensor:
        return buffer
