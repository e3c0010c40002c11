"""A package ``triton`` without a compiler: kernels are interpreted, as far as they can be.

It takes the place of an installed triton, whose compiler needs a GPU.
"""

import importlib
import importlib.abc
import importlib.machinery
import math
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.utils._triton
from typing_extensions import override

from traces.targets.sglang.shims.triton_interpreter import LANGUAGE, InterpretedKernel

NAME = "triton"
VERSION = "3.5.0"

# Whether there is a triton; torch keeps the answers.
_QUESTIONS_OF_TORCH = (torch.utils._triton.has_triton_package, torch.utils._triton.has_triton)  # noqa: SLF001
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

    # inspect asks each module that has a file where it is, and fails where another one of this name
    # had a file before.
    __file__ = __file__
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
        if not _is_part(fullname):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    @override
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Module(spec.name)

    @override
    def exec_module(self, module: types.ModuleType) -> None:
        vars(module).update(_KNOWN.get(module.__name__, {}))


class _Absence(importlib.abc.MetaPathFinder):
    """Import finder by which there is no such package."""

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> None:
        del path, target
        if _is_part(fullname):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def install() -> Callable[[], None]:
    """Make ``import triton`` give this package; return the function that undoes it.

    torch must not take the package for a real one: it looks for triton here first, finds none, and
    keeps what it found.
    """
    installed = _forget()
    absence = _Absence()
    sys.meta_path.insert(0, absence)
    for question in _QUESTIONS_OF_TORCH:
        question.cache_clear()
        question()
    for name in _NAMES_TORCH_IMPORTS:
        importlib.import_module(name)
    sys.meta_path.remove(absence)
    finder = TritonFinder()
    sys.meta_path.insert(0, finder)
    return lambda: _remove(finder, installed)


def _remove(finder: TritonFinder, installed: Mapping[str, types.ModuleType]) -> None:
    sys.meta_path.remove(finder)
    _forget()
    sys.modules.update(installed)
    for question in _QUESTIONS_OF_TORCH:
        question.cache_clear()


def _forget() -> dict[str, types.ModuleType]:
    """Take the modules of the package from those that are imported; return them by name."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if _is_part(name)}


def _is_part(name: str) -> bool:
    return name.partition(".")[0] == NAME
