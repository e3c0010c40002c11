"""Host mirror of the states of linear layers."""

from typing import ClassVar

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.device_pools.mamba import MambaPool
from assembler.geometry import PlaneGeometry
from assembler.host_pools.base import HostKVCache, bytes_per_slot
from assembler.host_pools.sizing import host_page_num
from assembler.names import HostLayout, IoBackend
from assembler.transfer.rows import RowMap, SlotRows


class MambaPoolHost(HostKVCache):
    """States of a :class:`MambaPool`; a slot is a whole state and a page is one slot.

    Attributes:
        temporal_buffer: temporal states.
        conv_buffer: a tensor for each convolution. Both ``(layer_num, size, *state_shape)`` for
            ``layer_first``, else ``(size, layer_num, 1, *state_shape)``.

    Source: sglang 0.5.12 ``memory_pool_host.py:1188-1656``.
    """

    layouts: ClassVar = {
        IoBackend.KERNEL: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST),
        IoBackend.DIRECT: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST_DIRECT),
    }

    def __init__(
        self,
        *,
        device_pool: MambaPool,
        host_to_device_ratio: float,
        host_size: float,
        layout: str,
        pin_memory: bool,
        device: Device,
        allocator_type: str | None,
    ) -> None:
        planes = _planes(device_pool)
        super().__init__(
            device_pool=device_pool,
            planes=planes,
            slots_per_row=1,
            page_num=host_page_num(
                subject=type(self).__name__,
                device_size=device_pool.size,
                host_to_device_ratio=host_to_device_ratio,
                host_size=host_size,
                page_size=1,
                size_per_token=bytes_per_slot(planes, 1, device_pool.layer_num),
            ),
            page_size=1,
            layout=layout,
            pin_memory=pin_memory,
            device=device,
            allocator_type=allocator_type,
        )
        temporal, *convolutions = planes
        self.temporal_buffer = self._new_buffer(temporal)
        self.conv_buffer = [self._new_buffer(plane) for plane in convolutions]

    def _new_buffer(self, plane: PlaneGeometry) -> torch.Tensor:
        if self.layout is HostLayout.LAYER_FIRST:
            return self._empty((self.layer_num, self.size, *plane.row_shape), plane.dtype)
        return self._empty((self.size, self.layer_num, 1, *plane.row_shape), plane.dtype)

    @override
    def _plane_buffer(self, plane: str) -> torch.Tensor:
        names = [geometry.name for geometry in self.planes]
        return [self.temporal_buffer, *self.conv_buffer][names.index(plane)]

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
        return SlotRows()


def _planes(device_pool: MambaPool) -> tuple[PlaneGeometry, ...]:
    """Return the temporal plane and then the convolutions."""
    states = {"temporal": device_pool.temporal} | {
        f"conv_{index}": buffer for index, buffer in enumerate(device_pool.conv)
    }
    return tuple(
        PlaneGeometry(name=name, row_shape=tuple(state.shape[2:]), dtype=state.dtype)
        for name, state in states.items()
    )
