"""Host mirror of compressed index keys: one key for every few tokens of an anchor pool."""

from typing import ClassVar, Protocol

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.geometry import PlaneGeometry
from assembler.host_pools.base import DevicePool, HostKVCache
from assembler.host_pools.memory import HostMemory
from assembler.host_pools.tokens import TokenHostPool
from assembler.names import HostLayout, IoBackend


class CompressedIndexRows(DevicePool, Protocol):
    """A device pool of compressed index keys.

    Attributes:
        index_head_dim: elements of an index key.
        compress_ratio: tokens that share a key.
        index_dtype: type of the keys.
    """

    index_head_dim: int
    compress_ratio: int
    index_dtype: torch.dtype


class QSAIndexerPoolHost(TokenHostPool):
    """Index keys of a device pool, which follow the slots of an anchor pool.

    Row ``slot // compress_ratio`` belongs to the slots of an aligned group of tokens, on both
    sides. Slots come from the anchor; this pool's own ``alloc`` has no use in a group.

    Attributes:
        index_k_buffer: shapes in :mod:`assembler.host_pools.layouts`, with
            ``row = (1, index_head_dim)`` and ``page_size // compress_ratio`` rows a page.

    Source: sglang 0.5.23 ``pool_host/qsa.py``, which moves whole pages.
    """

    layouts: ClassVar = {
        IoBackend.KERNEL: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST),
        IoBackend.DIRECT: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST_DIRECT),
    }

    def __init__(
        self,
        *,
        device_pool: CompressedIndexRows,
        anchor_host: HostKVCache,
        layout: str,
        pin_memory: bool,
        device: Device,
        allocator_type: str | None,
    ) -> None:
        row_shape = (1, device_pool.index_head_dim)
        plane = PlaneGeometry(name="index_k", row_shape=row_shape, dtype=device_pool.index_dtype)
        # Slots start at a page, and a page is whole groups: slot // ratio is exact on both sides.
        super().__init__(
            device_pool=device_pool,
            planes=(plane,),
            slots_per_row=device_pool.compress_ratio,
            page_num=anchor_host.page_num,
            page_size=anchor_host.page_size,
            memory=HostMemory(
                layout=layout, pin_memory=pin_memory, device=device, allocator_type=allocator_type
            ),
        )
        self.index_k_buffer = self._empty(self._buffer_shape(plane), plane.dtype)

    @override
    def plane_buffer(self, plane: str) -> torch.Tensor:
        return self.index_k_buffer
