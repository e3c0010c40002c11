"""A package ``triton`` without a compiler: kernels are interpreted, as far as they can be."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import math
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch.utils._triton
from typing_extensions import override

from traces.targets.sglang.shims.triton_interpreter import LANGUAGE, InterpretedKernel

NAME = "triton"
VERSION = "3.5.0"

# Modules of torch that import triton, or cache whether it is there.
_NAMES_TORCH_IMPORTS = ("torch._inductor.runtime.triton_compat",)


class _PlaceholderType(type):
    """Metaclass of placeholders: each attribute is another placeholder class."""

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
    """Return a class without effect that can be called and indexed and has every attribute."""
    return _PlaceholderType(name, (), {"__init__": lambda *_, **__: None, "__module__": NAME})


class Config:
    """One configuration of an autotuner."""

    def __init__(self, kwargs: dict[str, Any] | None = None, **options: object) -> None:
        self.kwargs = {} if kwargs is None else kwargs
        self.all_options = options


def jit(function: types.FunctionType | None = None, **_: object) -> Any:  # noqa: ANN401
    """Define a kernel; a decorator with or without arguments."""
    return InterpretedKernel if function is None else InterpretedKernel(function)


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
        "JITFunction": InterpretedKernel,
        "autotune": _decorate,
        "cdiv": cdiv,
        "constexpr_function": _constexpr_function,
        "heuristics": _decorate,
        "jit": jit,
        "next_power_of_2": next_power_of_2,
    },
    f"{NAME}.runtime": {"JITFunction": InterpretedKernel},
    f"{NAME}.runtime.jit": {"JITFunction": InterpretedKernel, "jit": jit},
    LANGUAGE: {"constexpr": type("constexpr", (placeholder("constexpr"),), {})},
}


class TritonFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import finder for the package and any submodule of it."""

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
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
    """Make ``import triton`` work where it is not installed; return the function that undoes it.

    torch must not take the package for the real one: it looks for triton here first, and caches
    that there is none.
    """
    if importlib.util.find_spec(NAME) is not None:
        return lambda: None
    torch.utils._triton.has_triton_package()  # noqa: SLF001 - caches its result
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
