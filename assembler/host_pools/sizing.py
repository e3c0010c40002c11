"""Sizes of host pools: the number of their pages, and the memory the host has for them."""

from dataclasses import dataclass

import psutil

from assembler.errors import OutOfHostMemoryError, PoolError
from assembler.geometry import PlaneGeometry

BYTES_PER_GB = 10**9
RESERVE_BYTES = 10 * 1024**3
RESERVE_SHARE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSize:
    """The wanted size of a host pool.

    Attributes:
        host_to_device_ratio: host slots for each device slot; counts when ``host_size`` is 0.
        host_size: decimal gigabytes, or 0.
        page_size: slots in a page.
    """

    host_to_device_ratio: float
    host_size: float
    page_size: int


def host_page_num(*, subject: str, size: HostSize, device_size: int, size_per_token: int) -> int:
    """Return the pages of a host pool: those of the wanted size, and always one more.

    Args:
        subject: class of the pool, for errors.
        size: the wanted size.
        device_size: slots of the mirrored pool.
        size_per_token: bytes of a slot over all planes and layers.

    Raises:
        PoolError: the pool would not be larger than the mirrored one.

    Source: sglang 0.5.12 ``memory_pool_host.py:175-189``.
    """
    if size.host_size > 0:
        # The width that is declared decides: a row taken for narrower buys too many slots.
        wanted = int(size.host_size * BYTES_PER_GB // size_per_token)
    else:
        wanted = int(device_size * size.host_to_device_ratio)
    # The extra page replaces the padding page of the device, which the host does not mirror.
    page_num = wanted // size.page_size + 1
    if page_num * size.page_size <= device_size:
        raise PoolError(
            subject,
            "the host pool must be larger than the device pool",
            expected=f"more than {device_size} slots",
            got=page_num * size.page_size,
        )
    return page_num


def check_host_memory(*, subject: str, requested_bytes: int) -> None:
    """Refuse a pool that the free host memory, less a reserve, cannot hold.

    The reserve is 10 GiB, or a tenth of a smaller machine's memory.

    Raises:
        OutOfHostMemoryError: the pool does not fit.

    Source: sglang 0.5.12 ``memory_pool_host.py:191-201``.
    """
    # "available", not "free": the page cache gives its pages back, pinned memory does not.
    memory = psutil.virtual_memory()
    reserve_bytes = min(RESERVE_BYTES, memory.total // RESERVE_SHARE)
    free_bytes = memory.available - reserve_bytes
    if requested_bytes > free_bytes:
        raise OutOfHostMemoryError(
            subject,
            "the host must have room for the pool beside its reserve",
            expected=f"at most {free_bytes / BYTES_PER_GB:.2f} GB",
            got=f"{requested_bytes / BYTES_PER_GB:.2f} GB",
        )


def bytes_per_slot(planes: tuple[PlaneGeometry, ...], slots_per_row: int, layer_num: int) -> int:
    """Return the bytes of a slot over all planes and layers."""
    # The rows of a group divide evenly among its slots.
    return sum(plane.row_bytes for plane in planes) // slots_per_row * layer_num
