"""The memory of a host pool: what a caller asks for, and how rows lie in it."""

from dataclasses import dataclass
from typing import TypedDict

from assembler.device.base import Device


class HostPoolArguments(TypedDict):
    """Arguments that the constructor of every host pool takes under the same name.

    Keys:
        host_to_device_ratio: host slots for each device slot; counts when ``host_size`` is 0.
        host_size: decimal gigabytes, or 0.
        page_size: slots in a page.
        layout: order of the axes of the buffers.
        pin_memory: whether the buffers are page-locked.
        device: the accelerator that must reach them.
        allocator_type: name of the memory source.
    """

    host_to_device_ratio: float
    host_size: float
    page_size: int
    layout: str
    pin_memory: bool
    device: Device
    allocator_type: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """The memory of a host pool, and the order of axes in it.

    Attributes:
        layout: a :class:`~assembler.names.HostLayout` value.
        pin_memory: whether the buffers are page-locked.
        device: the accelerator that must reach them.
        allocator_type: name of the memory source.
    """

    layout: str
    pin_memory: bool
    device: Device
    allocator_type: str | None
