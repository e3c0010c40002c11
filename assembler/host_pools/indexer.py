"""Host mirror of the index pages of sparse attention."""

from typing import ClassVar

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.device_pools.nsa import NSATokenToKVPool, index_row_bytes
from assembler.geometry import PlaneGeometry
from assembler.host_pools.base import HostKVCache
from assembler.names import HostLayout, IoBackend
from assembler.transfer.rows import PageRows, RowMap


class NSAIndexerPoolHost(HostKVCache):
    """Index pages of a :class:`NSATokenToKVPool`, which follow the slots of an anchor pool.

    It is as large as its anchor and moves whole pages, because keys and scales of a token lie apart
    in a page. Slots come from the anchor; this pool's own ``alloc`` has no use in a group.

    Attributes:
        anchor_host: the pool whose slots are used here.
        indexer_page_num: pages of the buffers, one more than the anchor has.
        index_k_with_scale_buffer: ``(layer_num, indexer_page_num, page_bytes) uint8`` for
            ``layer_first``, else ``(indexer_page_num, layer_num, 1, page_bytes) uint8``.

    Source: sglang 0.5.12 ``memory_pool_host.py:2306-2592``.
    """

    layouts: ClassVar = {
        IoBackend.KERNEL: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST),
        IoBackend.DIRECT: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST_DIRECT),
    }

    def __init__(
        self,
        *,
        device_pool: NSATokenToKVPool,
        anchor_host: HostKVCache,
        layout: str,
        pin_memory: bool,
        device: Device,
        allocator_type: str | None,
    ) -> None:
        page_size = anchor_host.page_size
        page_bytes = index_row_bytes(page_size=page_size, index_head_dim=device_pool.index_head_dim)
        plane = PlaneGeometry(name="index_k", row_shape=(page_bytes,), dtype=torch.uint8)
        super().__init__(
            device_pool=device_pool,
            planes=(plane,),
            slots_per_row=page_size,
            page_num=anchor_host.page_num,
            page_size=page_size,
            layout=layout,
            pin_memory=pin_memory,
            device=device,
            allocator_type=allocator_type,
        )
        self.dtype = torch.uint8
        self.anchor_host = anchor_host
        self.indexer_page_num = (self.size + page_size + 1) // page_size
        self.index_k_with_scale_buffer = self._empty(self._buffer_shape(page_bytes), self.dtype)

    def _buffer_shape(self, page_bytes: int) -> tuple[int, ...]:
        if self.layout is HostLayout.LAYER_FIRST:
            return (self.layer_num, self.indexer_page_num, page_bytes)
        return (self.indexer_page_num, self.layer_num, 1, page_bytes)

    @override
    def _plane_buffer(self, plane: str) -> torch.Tensor:
        return self.index_k_with_scale_buffer

    @override
    def _layer_rows(self, buffer: torch.Tensor, layer: int) -> torch.Tensor:
        if self.layout is HostLayout.LAYER_FIRST:
            return buffer[layer]
        return buffer[:, layer, 0]

    @override
    def _device_rows(self, buffer: torch.Tensor) -> torch.Tensor:
        return buffer

    @override
    def _new_row_map(self) -> RowMap:
        return PageRows(subject=type(self).__name__, page_size=self.page_size)
