"""Host mirror of the index pages of sparse attention."""

from typing import ClassVar, Protocol

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.geometry import PlaneGeometry
from assembler.host_pools.base import DevicePool, HostKVCache
from assembler.host_pools.memory import HostMemory
from assembler.host_pools.pages import PageHostPool
from assembler.names import HostLayout, IoBackend

QUANT_BLOCK_SIZE = 128
SCALE_BYTES = torch.float32.itemsize


def index_row_bytes(*, page_size: int, index_head_dim: int) -> int:
    """Return the bytes of one index page of one layer.

    A page holds first the float8 keys of all its tokens, then one float32 scale for each
    quantisation block of each token: ``64 * (128 + 128 / 128 * 4) = 64 * 132`` for a page of 64.
    Keys and scales of a token lie apart, so nothing smaller than a page can move.
    """
    scales_bytes = index_head_dim // QUANT_BLOCK_SIZE * SCALE_BYTES
    return page_size * (index_head_dim + scales_bytes)


class IndexRows(DevicePool, Protocol):
    """A device pool of index pages.

    Attributes:
        index_head_dim: elements of an index key.
    """

    index_head_dim: int


class NSAIndexerPoolHost(PageHostPool):
    """Index pages of a device pool, which follow the slots of an anchor pool.

    It is as large as its anchor and moves whole pages, because keys and scales of a token lie apart
    in a page. Slots come from the anchor; this pool's own ``alloc`` has no use in a group.

    Attributes:
        index_k_with_scale_buffer: ``(layer_num, page_num + 1, page_bytes) uint8`` for
            ``layer_first``, else ``(page_num + 1, layer_num, 1, page_bytes) uint8``.

    Source: sglang 0.5.12 ``memory_pool_host.py:2306-2592``.
    """

    layouts: ClassVar = {
        IoBackend.KERNEL: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST),
        IoBackend.DIRECT: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST_DIRECT),
    }

    def __init__(
        self,
        *,
        device_pool: IndexRows,
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
            memory=HostMemory(
                layout=layout, pin_memory=pin_memory, device=device, allocator_type=allocator_type
            ),
        )
        # One page more than the anchor: the field rounds up behind the padding slot.
        row_num = (self.size + page_size + 1) // page_size
        self.index_k_with_scale_buffer = self._new_buffer(plane, row_num=row_num)

    @override
    def plane_buffer(self, plane: str) -> torch.Tensor:
        # One page more than slots: a window of it is as long as the buffer, not as the pool.
        return self.index_k_with_scale_buffer
