"""Wrappers of the real kernels on a GPU that report the bytes each call moves."""

import sys
import types
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from traces.targets.sglang.shims.host_memory import POISON
from traces.targets.sglang.shims.kernel_moves import report_kernel_move
from traces.targets.sglang.shims.kernel_table import KERNELS, TransferKernel
from traces.targets.sglang.shims.module_binding import AttributePatches

_HOLDERS = ("sglang", "sgl_kernel")
_FACTORIES = "ALLOC_MEMORY_FUNCS"
_StreamName = Callable[[torch.cuda.Stream], str]


def observe_kernels(
    functions: Mapping[str, Callable[..., Any]], stream_name: _StreamName
) -> dict[str, Callable[..., Any]]:
    """Wrap real kernels so that :func:`report_copy` is called with the bytes they move.

    Functions that are not in the table are returned unchanged.
    """
    return {
        name: _observed_kernel(KERNELS[name], real, stream_name) if name in KERNELS else real
        for name, real in functions.items()
    }


class KernelObserver:
    """Replaces kernels by observed ones in every imported module of a release.

    New host memory, whose content is undefined, is filled as the shims fill it: bytes that a
    release copies without having written them are then the same on a GPU and in the simulation.
    ``bound`` has the replaced attributes as ``module.name``.
    """

    def __init__(self, stream_name: _StreamName) -> None:
        self._stream_name = stream_name
        self.bound: list[str] = []
        self._changes = AttributePatches()
        self._wrappers: dict[int, Callable[..., Any]] = {}
        self._kept: list[object] = []

    def bind(self) -> None:
        """Replace kernels in the modules imported by now; later calls add new modules."""
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] in _HOLDERS and isinstance(module, types.ModuleType):
                self._bind_kernels(module)
                self._bind_memory(module)

    def remove(self) -> None:
        """Restore every replaced attribute."""
        self._changes.undo()
        self.bound.clear()

    def _bind_kernels(self, module: types.ModuleType) -> None:
        for alias, value in list(vars(module).items()):
            if _is_kernel(value):
                self._changes.set(module, alias, self._wrapper(value))
                self.bound.append(f"{module.__name__}.{alias}")

    def _wrapper(self, real: types.FunctionType) -> Callable[..., Any]:
        """Return the wrapper that all aliases of a kernel share."""
        if id(real) not in self._wrappers:
            self._kept.append(real)
            kernel = KERNELS[real.__name__]
            self._wrappers[id(real)] = _observed_kernel(kernel, real, self._stream_name)
        return self._wrappers[id(real)]

    def _bind_memory(self, module: types.ModuleType) -> None:
        factories = vars(module).get(_FACTORIES)
        if not isinstance(factories, defaultdict) or any(factories is kept for kept in self._kept):
            return
        self._kept.append(factories)
        make = factories.default_factory
        if make is not None:
            self._changes.set_member(
                factories, "default_factory", lambda: _filling_allocator(make())
            )
        for key, allocate in list(factories.items()):
            factories[key] = _filling_allocator(allocate)
            self._changes.on_undo(partial(factories.__setitem__, key, allocate))
        self.bound.append(f"{module.__name__}.{_FACTORIES}")


def _is_kernel(value: object) -> bool:
    return (
        isinstance(value, types.FunctionType)
        and value.__name__ in KERNELS
        and value.__module__.partition(".")[0] in _HOLDERS
    )


def _observed_kernel(
    kernel: TransferKernel, real: Callable[..., Any], stream_name: _StreamName
) -> Callable[..., Any]:
    def run(*arguments: object, **named: object) -> Any:  # noqa: ANN401 - what the kernel returns
        stream = stream_name(torch.cuda.current_stream())
        moves = kernel.read(*arguments, **named)
        result = real(*arguments, **named)
        # After the call: a kernel that raises has moved nothing.
        for move in moves:
            report_kernel_move(move, kernel=kernel.name, backend=kernel.backend, stream=stream)
        return result

    run.__name__ = run.__qualname__ = kernel.name
    return run


def _filling_allocator(allocate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def run(*arguments: object, **named: object) -> torch.Tensor:
        tensor = allocate(*arguments, **named)
        if tensor.numel() and not tensor.is_cuda:
            tensor.view(-1).view(torch.uint8).fill_(POISON)
        return tensor

    return run
