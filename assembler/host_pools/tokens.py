"""Base of the host pools whose rows belong to tokens: one buffer a plane, in any layout."""

import torch
from typing_extensions import override

from assembler.geometry import PlaneGeometry
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.layouts import device_rows, layer_rows, token_buffer_shape
from assembler.names import HostLayout
from assembler.transfer.rows import HeadRows, PageRows, RowMap


class TokenHostPool(HostKVCache):
    """Rows of tokens, or of aligned groups of ``slots_per_row`` tokens, in every plane and layer.

    Buffer shapes: :mod:`assembler.host_pools.layouts`.
    """

    @property
    @override
    def row_map(self) -> RowMap:
        # Pages before groups: where a page is one block, nothing smaller than a page moves.
        if self.layout is HostLayout.PAGE_FIRST_DIRECT:
            return PageRows(subject=type(self).__name__, page_size=self.page_size)
        if self.layout is HostLayout.PAGE_HEAD:
            # Every plane of such a pool has the same heads; only their widths may differ.
            head_num, _ = self.planes[0].row_shape
            return HeadRows(head_num=head_num, page_size=self.page_size)
        if self.slots_per_row > 1:
            return PageRows(subject=type(self).__name__, page_size=self.slots_per_row)
        return RowMap()

    @property
    def _rows_per_page(self) -> int:
        return self.page_size // self.slots_per_row

    def _buffer_shape(self, plane: PlaneGeometry) -> tuple[int, ...]:
        return token_buffer_shape(
            layout=self.layout,
            layer_num=self.layer_num,
            page_num=self.page_num,
            page_size=self._rows_per_page,
            row_shape=plane.row_shape,
        )

    @override
    def _layer_rows(self, buffer: torch.Tensor, layer: int) -> torch.Tensor:
        return layer_rows(buffer=buffer, layout=self.layout, layer=layer)

    @override
    def _device_rows(self, buffer: torch.Tensor) -> torch.Tensor:
        return device_rows(buffer=buffer, layout=self.layout, page_size=self._rows_per_page)
