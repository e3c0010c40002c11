"""The table: a kernel's name, its backend and what reads its arguments."""

from collections.abc import Callable
from dataclasses import dataclass

from traces.targets.sglang.standins import compiled_readers, direct_readers, kernel_readers
from traces.targets.sglang.standins.moves import Move


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One transfer kernel.

    Attributes:
        name: of the function that a release calls.
        backend: ``kernel`` or ``direct``.
        read: has the kernel's parameters; returns what it moves.
        is_compiled: whether a release compiles it itself, instead of taking it from sgl_kernel.
    """

    name: str
    backend: str
    read: Callable[..., list[Move]]
    is_compiled: bool


def _kernels() -> dict[str, Kernel]:
    sources = (
        (kernel_readers, "kernel", False),
        (compiled_readers, "kernel", True),
        (direct_readers, "direct", False),
    )
    return {
        name: Kernel(name=name, backend=backend, read=reader, is_compiled=is_compiled)
        for module, backend, is_compiled in sources
        for name, reader in vars(module).items()
        if name.startswith("transfer_")
    }


KERNELS: dict[str, Kernel] = _kernels()
"""Every kernel that a release uses to move rows between a host pool and a device pool."""
