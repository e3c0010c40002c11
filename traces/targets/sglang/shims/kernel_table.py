"""The table: a kernel's name, its backend and what reads its arguments."""

from collections.abc import Callable
from dataclasses import dataclass

from traces.targets.sglang.shims import compiled_kernel_models, direct_kernel_models, kernel_models
from traces.targets.sglang.shims.kernel_moves import KernelMove


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferKernel:
    """One transfer kernel.

    Attributes:
        name: of the function that a release calls.
        backend: ``kernel`` or ``direct``.
        read: has the kernel's parameters; returns what it moves.
        is_compiled: whether a release compiles it itself, instead of taking it from sgl_kernel.
    """

    name: str
    backend: str
    read: Callable[..., list[KernelMove]]
    is_compiled: bool


def _kernels() -> dict[str, TransferKernel]:
    sources = (
        (kernel_models, "kernel", False),
        (compiled_kernel_models, "kernel", True),
        (direct_kernel_models, "direct", False),
    )
    return {
        name: TransferKernel(name=name, backend=backend, read=reader, is_compiled=is_compiled)
        for module, backend, is_compiled in sources
        for name, reader in vars(module).items()
        if name.startswith("transfer_")
    }


KERNELS: dict[str, TransferKernel] = _kernels()
"""Every kernel that a release uses to move rows between a host pool and a device pool."""
