"""Functions of the CUDA driver that torch does not offer: modules, launches, and their context."""

import ctypes
import threading
from functools import cache
from typing import Any

from assembler.errors import TransferError

_MOST_DYNAMIC_SHARED_BYTES = 8
_bound = threading.local()


class DriverFunction:
    """A kernel, ready to be launched.

    Args:
        driver: the driver's library.
        handle: of the kernel.
        threads: threads of a block.
        shared_bytes: dynamic shared memory of a block.
    """

    def __init__(
        self, driver: ctypes.CDLL, handle: ctypes.c_void_p, *, threads: int, shared_bytes: int
    ) -> None:
        self._driver = driver
        self._handle = handle
        self._threads = ctypes.c_uint(threads)
        self._shared_bytes = ctypes.c_uint(shared_bytes)

    def launch(self, *numbers: int, blocks: int, stream: int) -> None:
        """Launch the kernel on a stream; its parameters are addresses and numbers of 64 bits.

        Raises:
            TransferError: the driver refuses the launch.
        """
        values = (ctypes.c_longlong * len(numbers))(*numbers)
        first = ctypes.addressof(values)
        pointers = (ctypes.c_void_p * len(numbers))(*range(first, first + 8 * len(numbers), 8))
        one = ctypes.c_uint(1)
        code = self._driver.cuLaunchKernel(
            self._handle,
            *(ctypes.c_uint(blocks), one, one),
            *(self._threads, one, one),
            self._shared_bytes,
            ctypes.c_void_p(stream),
            pointers,
            None,
        )
        check_code(code, "kernel launch")


class DriverModule:
    """Compiled code that is loaded into the primary context of a GPU.

    Args:
        image: the code.
        ordinal: the GPU.

    Raises:
        TransferError: the driver refuses the code.
    """

    def __init__(self, image: bytes, *, ordinal: int) -> None:
        found = find_driver()
        assert found is not None
        self._driver = found
        bind_context(ordinal)
        self._module = ctypes.c_void_p()
        check_code(found.cuModuleLoadData(ctypes.byref(self._module), image), "kernel code")

    def function(self, name: str, *, threads: int, shared_bytes: int) -> DriverFunction:
        """Return a kernel by name.

        Raises:
            TransferError: there is none, or no block of it fits on a multiprocessor.
        """
        handle = ctypes.c_void_p()
        code = self._driver.cuModuleGetFunction(ctypes.byref(handle), self._module, name.encode())
        check_code(code, f"kernel {name}")
        if shared_bytes:
            code = self._driver.cuFuncSetAttribute(handle, _MOST_DYNAMIC_SHARED_BYTES, shared_bytes)
            check_code(code, f"kernel {name}")
        return DriverFunction(self._driver, handle, threads=threads, shared_bytes=shared_bytes)


@cache
def find_driver() -> ctypes.CDLL | None:
    """Return the library of the CUDA driver; None where there is none."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def bind_context(ordinal: int) -> None:
    """Make the primary context of a GPU the current one of this thread, once for each thread.

    torch binds it with its first call to the runtime; a thread may come here before that.

    Raises:
        TransferError: the driver has no such context.
    """
    if getattr(_bound, "ordinal", None) == ordinal:
        return
    driver: Any = find_driver()
    device, context = ctypes.c_int(), ctypes.c_void_p()
    check_code(driver.cuDeviceGet(ctypes.byref(device), ctypes.c_int(ordinal)), "GPU")
    code = driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    check_code(code, "GPU context")
    check_code(driver.cuCtxSetCurrent(context), "GPU context")
    _bound.ordinal = ordinal


def check_code(code: int, subject: str) -> None:
    """Raise TransferError for a result of the driver that is an error."""
    if code:
        rule = "the driver must take it"
        raise TransferError(subject, rule, expected="CUDA_SUCCESS", got=f"error {code}")
