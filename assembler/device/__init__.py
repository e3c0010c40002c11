"""Devices: the interface through which pools and controllers reach the hardware."""

from assembler.device.access import Accesses, MemoryAccess, StridedRows, row_access, tensor_access
from assembler.device.base import Device, Event, Stream
from assembler.device.select import get_device

__all__ = [
    "Accesses",
    "Device",
    "Event",
    "MemoryAccess",
    "Stream",
    "StridedRows",
    "get_device",
    "row_access",
    "tensor_access",
]
