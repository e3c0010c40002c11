"""Host mirror of keys and values in MXFP8: float8 elements and the scales of their blocks."""

from typing import ClassVar

import torch
from typing_extensions import override

from assembler.geometry import PlaneGeometry
from assembler.host_pools.mha import MHARows, MHATokenToKVPoolHost
from assembler.names import HostLayout, IoBackend

SCALE_BLOCK_SIZE = 32


class MHATokenToKVPoolMXFP8Host(MHATokenToKVPoolHost):
    """Keys, values and their block scales, four planes on the same slots.

    Attributes:
        scale_buffer: scales of keys and values, in one tensor or two and in the shapes of
            ``kv_buffer``, with ``row = (head_num, dim // 32) uint8``.

    Source: sglang 0.5.23 ``pool_host/mha_mxfp8.py``, which keeps the scales of a page of 128 tokens
        as one row, for ``page_first`` only; here they are rows of tokens, as its device pool has
        them for any other page size.
    """

    # No page_head: the scales of a head of 128 are 4 bytes, and kernels copy words of 8.
    layouts: ClassVar = {
        IoBackend.KERNEL: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST),
        IoBackend.DIRECT: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST_DIRECT),
    }

    @override
    def _allocate(self) -> None:
        super()._allocate()
        self.scale_buffer = self._new_pair(*self.planes[2:])

    @staticmethod
    @override
    def planes_of(device_pool: MHARows) -> tuple[PlaneGeometry, ...]:
        scales = tuple(
            PlaneGeometry(
                name=name,
                row_shape=(device_pool.head_num, head_dim // SCALE_BLOCK_SIZE),
                dtype=torch.uint8,
            )
            for name, head_dim in (
                ("k_scale", device_pool.head_dim),
                ("v_scale", device_pool.v_head_dim),
            )
        )
        return MHATokenToKVPoolHost.planes_of(device_pool) + scales

    @override
    def plane_buffer(self, plane: str) -> torch.Tensor:
        if plane.endswith("_scale"):
            return self.scale_buffer[0 if plane == "k_scale" else 1]
        return super().plane_buffer(plane)
