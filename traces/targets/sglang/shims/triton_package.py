"""A package ``triton`` without a compiler: kernels can be defined, and not launched.

torch must not take it for the real one, so torch's own questions are answered before it appears.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import math
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch.utils._triton
from typing_extensions import override

NAME = "triton"
VERSION = "3.5.0"

# They ask for triton when they are imported, or remember the answer.
_NAMES_TORCH_IMPORTS = ("torch._inductor.runtime.triton_compat",)


class KernelUnavailableError(RuntimeError):
    """A kernel was launched that only a GPU can run and that has no equivalent here."""


class UncompiledKernel:
    """A kernel that was defined.

    Attributes:
        fn: the function that was decorated.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.fn = function
        self.__name__ = getattr(function, "__name__", repr(function))
        self.__doc__ = function.__doc__

    def __getitem__(self, grid: object) -> Callable[..., NoReturn]:
        del grid
        return self._refuse

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """Refuse to be launched."""
        self._refuse()

    def run(self, *_: object, **__: object) -> NoReturn:
        """Refuse to be launched."""
        self._refuse()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise KernelUnavailableError(
            f"triton kernel {self.__name__}: must not be launched without a GPU; "
            "expected an equivalent in the stand-ins, got none"
        )


class _PlaceholderType(type):
    """Classes whose every attribute is another such class; usable as types, values and calls."""

    def __getattr__(cls, name: str) -> "_PlaceholderType":
        if name.startswith("__"):
            raise AttributeError(name)
        return placeholder(name)

    @override
    def __or__(cls, other: object) -> Any:
        return type.__or__(cls, other) if isinstance(other, type) else cls

    def __getitem__(cls, item: object) -> "_PlaceholderType":
        del item
        return cls

    def __iter__(cls) -> Any:  # noqa: ANN401
        return iter(())


def placeholder(name: str) -> _PlaceholderType:
    """Return a class that can be called, indexed, asked for attributes, and does nothing."""
    return _PlaceholderType(name, (), {"__init__": lambda *_, **__: None, "__module__": NAME})


class Config:
    """One configuration that an autotuner would try."""

    def __init__(self, kwargs: dict[str, Any] | None = None, **options: object) -> None:
        self.kwargs = {} if kwargs is None else kwargs
        self.all_options = options


def jit(function: Callable[..., Any] | None = None, **_: object) -> Any:  # noqa: ANN401
    """Define a kernel; with or without arguments."""
    return UncompiledKernel if function is None else UncompiledKernel(function)


def _decorate(*_: object, **__: object) -> Callable[[object], object]:
    return lambda kernel: kernel


def _constexpr_function(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def cdiv(x: int, y: int) -> int:
    """Return the quotient, rounded up."""
    return -(-x // y)


def next_power_of_2(n: int) -> int:
    """Return the smallest power of two that is not smaller."""
    return 1 if n <= 1 else 2 ** math.ceil(math.log2(n))


class _Module(types.ModuleType):
    """A module whose missing attributes are placeholders."""

    __file__ = None
    __version__ = VERSION

    @override
    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        value = placeholder(name)
        setattr(self, name, value)
        return value


_KNOWN: dict[str, dict[str, object]] = {
    NAME: {
        "Config": Config,
        "JITFunction": UncompiledKernel,
        "autotune": _decorate,
        "cdiv": cdiv,
        "constexpr_function": _constexpr_function,
        "heuristics": _decorate,
        "jit": jit,
        "next_power_of_2": next_power_of_2,
    },
    f"{NAME}.runtime": {"JITFunction": UncompiledKernel},
    f"{NAME}.runtime.jit": {"JITFunction": UncompiledKernel, "jit": jit},
    f"{NAME}.language": {"constexpr": type("constexpr", (placeholder("constexpr"),), {})},
}


class TritonFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the package and every submodule that anyone imports."""

    @override
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] != NAME:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    @override
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Module(spec.name)

    @override
    def exec_module(self, module: types.ModuleType) -> None:
        vars(module).update(_KNOWN.get(module.__name__, {}))


def install() -> Callable[[], None]:
    """Make ``import triton`` work where there is none; return what takes that back.

    Order: torch is asked first and keeps its answer that there is no triton.
    """
    if importlib.util.find_spec(NAME) is not None:
        return lambda: None
    torch.utils._triton.has_triton_package()  # noqa: SLF001 - remembers
    torch.utils._triton.has_triton()  # noqa: SLF001
    for name in _NAMES_TORCH_IMPORTS:
        importlib.import_module(name)
    finder = TritonFinder()
    sys.meta_path.append(finder)
    return lambda: _remove(finder)


def _remove(finder: TritonFinder) -> None:
    sys.meta_path.remove(finder)
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]
