"""Host mirror of keys and values in int8, and of their scales and zero points."""

from typing import ClassVar

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.geometry import PlaneGeometry
from assembler.host_pools.mha import MHARows, MHATokenToKVPoolHost
from assembler.names import HostLayout, IoBackend


class MHATokenToKVPoolInt8Host(MHATokenToKVPoolHost):
    """Keys, values, and a third plane on the same slots."""

    layouts: ClassVar = {
        IoBackend.KERNEL: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST),
        IoBackend.DIRECT: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST_DIRECT),
    }

    def __init__(
        self,
        *,
        device_pool: MHARows,
        host_to_device_ratio: float,
        host_size: float,
        page_size: int,
        layout: str,
        pin_memory: bool,
        device: Device,
        allocator_type: str | None,
    ) -> None:
        super().__init__(
            device_pool=device_pool,
            host_to_device_ratio=host_to_device_ratio,
            host_size=host_size,
            page_size=page_size,
            layout=layout,
            pin_memory=pin_memory,
            device=device,
            allocator_type=allocator_type,
        )
        affine = self.planes[2]
        self.affine_buffer = self._empty(self._buffer_shape(affine), affine.dtype)

    @staticmethod
    @override
    def planes_of(device_pool: MHARows) -> tuple[PlaneGeometry, ...]:
        shape = (device_pool.head_num, 2)
        affine = PlaneGeometry(name="affine", row_shape=shape, dtype=torch.float32)
        return (*MHATokenToKVPoolHost.planes_of(device_pool), affine)

    @override
    def plane_buffer(self, plane: str) -> torch.Tensor:
        return self.affine_buffer if plane == "affine" else super().plane_buffer(plane)
