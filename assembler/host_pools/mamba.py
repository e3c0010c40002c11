"""Host mirror of the states of linear layers."""

from typing import ClassVar, Protocol

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.geometry import PlaneGeometry
from assembler.host_pools.base import DevicePool
from assembler.host_pools.memory import HostMemory
from assembler.host_pools.pages import PageHostPool
from assembler.host_pools.sizing import HostSize, bytes_per_slot, host_page_num
from assembler.names import HostLayout, IoBackend


class StateRows(DevicePool, Protocol):
    """A device pool of recurrent states.

    Attributes:
        temporal: ``(layer_num, slots, *temporal_shape)``.
        conv: a tensor for each convolution, ``(layer_num, slots, *conv_shape)``.
    """

    temporal: torch.Tensor
    conv: list[torch.Tensor]


class MambaPoolHost(PageHostPool):
    """States of a device pool; a slot is a whole state and a page is one slot.

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

    def __init__(  # noqa: PLR0913 - published signature
        self,
        *,
        device_pool: StateRows,
        host_to_device_ratio: float,
        host_size: float,
        layout: str,
        pin_memory: bool,
        device: Device,
        allocator_type: str | None,
    ) -> None:
        planes = _planes(device_pool)
        size = HostSize(host_to_device_ratio=host_to_device_ratio, host_size=host_size, page_size=1)
        super().__init__(
            device_pool=device_pool,
            planes=planes,
            slots_per_row=1,
            page_num=host_page_num(
                subject=type(self).__name__,
                size=size,
                device_size=device_pool.size,
                size_per_token=bytes_per_slot(planes, 1, device_pool.layer_num),
            ),
            page_size=1,
            memory=HostMemory(
                layout=layout, pin_memory=pin_memory, device=device, allocator_type=allocator_type
            ),
        )
        temporal, *convolutions = planes
        self.temporal_buffer = self._new_buffer(temporal, row_num=self.size)
        self.conv_buffer = [self._new_buffer(plane, row_num=self.size) for plane in convolutions]

    @override
    def plane_buffer(self, plane: str) -> torch.Tensor:
        names = [geometry.name for geometry in self.planes]
        return [self.temporal_buffer, *self.conv_buffer][names.index(plane)]


def _planes(device_pool: StateRows) -> tuple[PlaneGeometry, ...]:
    """Return the temporal plane and then the convolutions."""
    states = {"temporal": device_pool.temporal} | {
        f"conv_{index}": buffer for index, buffer in enumerate(device_pool.conv)
    }
    return tuple(
        PlaneGeometry(name=name, row_shape=tuple(state.shape[2:]), dtype=state.dtype)
        for name, state in states.items()
    )
