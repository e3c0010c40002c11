"""Devices: the interface through which pools and controllers reach the hardware."""

from assembler.device.access import MemoryAccess, StridedRows, row_access, tensor_access
from assembler.device.base import Device, Event, Stream
from assembler.device.host_threads.thread_group import (
    HostThread,
    ThreadFlag,
    ThreadGroup,
    ThreadQueue,
)
from assembler.device.select import get_device

__all__ = [
    "Device",
    "Event",
    "HostThread",
    "MemoryAccess",
    "Stream",
    "StridedRows",
    "ThreadFlag",
    "ThreadGroup",
    "ThreadQueue",
    "get_device",
    "row_access",
    "tensor_access",
]
