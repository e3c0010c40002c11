"""The time to allocate page-locked host memory: ours, and the driver's own way."""

import ctypes
import time

import torch

from assembler.device.cuda import CudaDevice
from tools.bench.transfer.figures import HostMemoryTimes
from tools.errors import ToolError


def time_host_memory(device: CudaDevice, gigabytes: int) -> HostMemoryTimes:
    """Return the times for ``gigabytes * 2**30`` bytes.

    The first allocation is not compared: on a virtual machine it also takes memory from the host of
    the machine, whichever way comes first.
    """
    size = gigabytes << 30
    first = _time_ours(device, size)
    return HostMemoryTimes(
        bytes=size, first_s=first, ours_s=_time_ours(device, size), driver_s=_time_driver(size)
    )


def _time_ours(device: CudaDevice, size: int) -> float:
    start = time.perf_counter()
    memory = device.host_empty((size,), torch.uint8, pin_memory=True)
    seconds = time.perf_counter() - start
    del memory
    return seconds


def _time_driver(size: int) -> float:
    """Time ``cuMemHostAlloc``, which is behind torch's pinned memory."""
    driver, place = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
    start = time.perf_counter()
    code = driver.cuMemHostAlloc(ctypes.byref(place), ctypes.c_size_t(size), ctypes.c_uint(0))
    seconds = time.perf_counter() - start
    if code:
        rule = "the driver must have memory"
        raise ToolError("cuMemHostAlloc", rule, expected=f"{size} bytes", got=f"error {code}")
    driver.cuMemFreeHost(place)
    return seconds
