"""Large page-locked host memory: huge pages that several threads touch first, then registered.

``cudaHostAlloc``, behind torch's pinned memory, takes pages of 4 kB one after the other and rounds
up to a power of two.
"""

import ctypes
import mmap
import os
from collections.abc import Callable, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from assembler.errors import OutOfHostMemoryError

HUGE_PAGE_BYTES = 2 << 20
_PIECE_BYTES = 64 << 20
# 16 were not faster on 16 cores.
_MOST_THREADS = 8
# Linux 5.14; Python has no name for it.
_POPULATE_WRITE = 23


class _Region(mmap.mmap):
    """Anonymous memory that is unregistered before it is unmapped."""

    release: Callable[[], object] | None = None

    def __del__(self) -> None:
        if self.release is not None:
            # The driver may be gone when the interpreter ends.
            with suppress(Exception):
                self.release()


def locked_bytes(
    size: int,
    *,
    register: Callable[[int, int], bool],
    unregister: Callable[[int], object],
    cpus: Set[int],
) -> torch.Tensor:
    """Return ``(size,) uint8``, page-locked; the memory goes back with the last view of it.

    Args:
        size: bytes.
        register: page-locks memory, given address and bytes; returns whether it could.
        unregister: undoes it, given the address.
        cpus: processors beside the GPU. Threads on them touch the memory first, which decides where
            it lies; any processor where none of them may be used.

    Raises:
        OutOfHostMemoryError: the memory cannot be had or page-locked.
    """
    try:
        region = _Region(-1, size + HUGE_PAGE_BYTES)
    except OSError as error:
        raise _too_large(size, str(error)) from error
    start = ctypes.addressof(ctypes.c_char.from_buffer(region))
    offset = -start % HUGE_PAGE_BYTES
    with suppress(OSError):
        # Without huge pages it is slower, and no less right.
        region.madvise(mmap.MADV_HUGEPAGE, offset, size)
    _touch(start + offset, size, cpus)
    if not register(start + offset, size):
        raise _too_large(size, "memory that cannot be page-locked")
    region.release = partial(unregister, start + offset)
    return torch.frombuffer(region, dtype=torch.uint8, count=size, offset=offset)


def parse_cpus(text: str) -> frozenset[int]:
    """Return the processors of a list as Linux writes it: ``0-3,8``."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def cpus_beside(device: torch.device) -> frozenset[int]:
    """Return the processors of the GPU's NUMA node; none where Linux does not say."""
    # torch has these numbers; its types do not.
    properties: Any = torch.cuda.get_device_properties(device)
    with suppress(AttributeError, OSError, ValueError):
        name = f"{properties.pci_domain_id:04x}:{properties.pci_bus_id:02x}"
        path = Path(f"/sys/bus/pci/devices/{name}:{properties.pci_device_id:02x}.0/local_cpulist")
        return parse_cpus(path.read_text(encoding="ascii"))
    return frozenset()


def _touch(address: int, size: int, cpus: Set[int]) -> None:
    usable = os.sched_getaffinity(0)
    chosen = (usable & cpus) or usable
    with ThreadPoolExecutor(
        min(_MOST_THREADS, len(chosen)), initializer=os.sched_setaffinity, initargs=(0, chosen)
    ) as threads:
        starts = range(0, size, _PIECE_BYTES)
        list(threads.map(lambda at: _populate(address + at, min(_PIECE_BYTES, size - at)), starts))


def _populate(address: int, size: int) -> None:
    # Both calls let other threads run meanwhile.
    if _madvise()(address, size, _POPULATE_WRITE):
        ctypes.memset(address, 0, size)


@cache
def _madvise() -> Callable[[int, int, int], int]:
    function = ctypes.CDLL(None).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    found: Callable[[int, int, int], int] = function
    return found


def _too_large(size: int, got: str) -> OutOfHostMemoryError:
    rule, expected = "must be had and page-locked", f"room for {size} bytes"
    return OutOfHostMemoryError("host memory", rule, expected=expected, got=got)
