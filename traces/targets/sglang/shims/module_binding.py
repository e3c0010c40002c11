"""Binding of shims: packages for a release to import, and names in its modules."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import torch
from typing_extensions import override

from traces.targets.common.source_reads import note_names_read
from traces.targets.sglang.shims.triton_interpreter import KernelUnavailableError

_RELEASE = "sglang"
_TERABYTE = 1 << 40
_CUDA_FLAG = "_is_cuda"
_PLATFORM = "current_platform"
_SYNCHRONIZE = "synchronize"
_KERNEL_CAPABILITY = "hicache_device_kernels"
_COMPILE = "load_jit"
_MISSING = object()


class AttributePatches:
    """Patched attributes, and how to restore them."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def set(self, owner: object, name: str, value: object) -> None:
        """Set an attribute."""
        before = vars(owner).get(name, _MISSING)
        setattr(owner, name, value)
        if before is _MISSING:
            self._undo.append(lambda: delattr(owner, name))
        else:
            self._undo.append(lambda: setattr(owner, name, before))

    def set_member(self, owner: object, name: str, value: object) -> None:
        """Set an attribute that is not in the owner's ``__dict__``."""
        before = getattr(owner, name)
        setattr(owner, name, value)
        self._undo.append(lambda: setattr(owner, name, before))

    def on_undo(self, action: Callable[[], None]) -> None:
        """Call ``action`` on undo."""
        self._undo.append(action)

    def undo(self) -> None:
        """Undo all changes, the latest first."""
        while self._undo:
            self._undo.pop()()


class _PsutilWithRoom(types.ModuleType):
    """Module ``psutil`` on a host with a terabyte free: pools refuse sizes beyond free memory."""

    def __init__(self, real: types.ModuleType) -> None:
        super().__init__(real.__name__)
        self._real = real

    @override
    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def virtual_memory(self) -> types.SimpleNamespace:
        """Return the fields that releases read."""
        return types.SimpleNamespace(
            total=_TERABYTE, available=_TERABYTE, free=_TERABYTE, used=0, percent=0.0
        )


class _AttributeOverride:
    """Proxy of an object of a release with other attribute values."""

    def __init__(self, real: object, **amended: object) -> None:
        self._real = real
        vars(self).update(amended)

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def add_kernel_package(
    functions: Mapping[str, Callable[..., None]], changes: AttributePatches
) -> None:
    """Add a package ``sgl_kernel`` that holds only the transfer functions."""
    package = _package("sgl_kernel")
    vars(package)["__version__"] = "0.0.0"
    transfers = _package("sgl_kernel.kvcacheio")
    vars(transfers).update(functions)
    vars(package)["kvcacheio"] = transfers
    for module in (package, transfers):
        sys.modules[module.__name__] = module
        changes.on_undo(_forget(module.__name__))


def add_vision_operators(changes: AttributePatches) -> None:
    """Define the operators of torchvision that its import needs and that did not load.

    The compiled ones are loaded first: defining an operator twice aborts the process.
    """
    package = importlib.util.find_spec("torchvision")
    if package is not None:
        _load_operators(package.submodule_search_locations or [])
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    changes.on_undo(library._destroy)  # noqa: SLF001 - the library's only end


def _load_operators(folders: Sequence[str]) -> None:
    """Load the compiled operators of a package, if this torch can."""
    compiled = importlib.machinery.PathFinder.find_spec("_C", list(folders))
    if compiled is not None and compiled.origin is not None:
        # A library that fails to load has defined no operator.
        with suppress(OSError):
            torch.ops.load_library(compiled.origin)


class ShimBinder:
    """Replaces the names of kernels in the modules of a release.

    ``bound`` has the replaced attributes as ``module.name``.
    """

    def __init__(
        self,
        *,
        functions: Mapping[str, Callable[..., None]],
        allocate: Callable[..., torch.Tensor],
        synchronize: Callable[..., None],
        changes: AttributePatches,
    ) -> None:
        self.bound: list[str] = []
        self._synchronize = synchronize
        self._functions = functions
        self._allocate = allocate
        self._changes = changes
        self._factories: set[int] = set()
        note_names_read(functions)

    def bind(self, module: types.ModuleType) -> None:
        """Bind one module; binding it again changes nothing."""
        self._bind_platform(module)
        self._bind_compiler(module)
        self._bind_kernels(module)
        self._bind_memory(module)

    def bind_imported(self) -> None:
        """Bind all imported modules of the release."""
        for name, module in list(sys.modules.items()):
            if _is_of_release(name) and isinstance(module, types.ModuleType):
                self.bind(module)

    def _bind_compiler(self, module: types.ModuleType) -> None:
        """Disable the compiler of kernels: shims of transfer kernels run instead of these."""
        has_kernels = any(
            _is_release_kernel(value, self._functions) and value.__module__ == module.__name__
            for value in vars(module).values()
        )
        if has_kernels and _COMPILE in vars(module):
            self._set(module, _COMPILE, lambda *_, **__: None)
        elif _is_defined_in(module, _COMPILE):
            self._set(module, _COMPILE, _refuse_compilation)

    def _bind_kernels(self, module: types.ModuleType) -> None:
        """Bind a module's kernels, and set the flags by which it takes its CUDA path."""
        before = len(self.bound)
        self._bind_functions(module)
        if len(self.bound) == before:
            return
        if vars(module).get(_CUDA_FLAG) is False:
            self._set(module, _CUDA_FLAG, value=True)
        capabilities = getattr(vars(module).get(_PLATFORM), "capabilities", None)
        if hasattr(capabilities, _KERNEL_CAPABILITY):
            able = _AttributeOverride(capabilities, **{_KERNEL_CAPABILITY: True})
            self._set(
                module, _PLATFORM, _AttributeOverride(vars(module)[_PLATFORM], capabilities=able)
            )

    def _bind_functions(self, module: types.ModuleType) -> None:
        named = _names(module)
        for name, function in self._functions.items():
            if name in named and name not in vars(module):
                self._set(module, name, function)
        for alias, value in list(vars(module).items()):
            if _is_release_kernel(value, self._functions):
                self._set(module, alias, self._functions[value.__name__])

    def _bind_platform(self, module: types.ModuleType) -> None:
        """Have the platform that a release chose wait for the device: that of no GPU may not."""
        platform = vars(module).get(_PLATFORM)
        if isinstance(platform, _AttributeOverride) or not hasattr(platform, _SYNCHRONIZE):
            return
        if getattr(platform, _SYNCHRONIZE) != self._synchronize:
            self._changes.set(platform, _SYNCHRONIZE, self._synchronize)
            self.bound.append(f"{module.__name__}.{_PLATFORM}.{_SYNCHRONIZE}")

    def _bind_memory(self, module: types.ModuleType) -> None:
        real = vars(module).get("psutil")
        if isinstance(real, types.ModuleType) and not isinstance(real, _PsutilWithRoom):
            self._set(module, "psutil", _PsutilWithRoom(real))
        factories = vars(module).get("ALLOC_MEMORY_FUNCS")
        if isinstance(factories, defaultdict) and id(factories) not in self._factories:
            self._factories.add(id(factories))
            self._changes.set_member(factories, "default_factory", lambda: self._allocate)
            self.bound.append(f"{module.__name__}.ALLOC_MEMORY_FUNCS")

    def _set(self, module: types.ModuleType, name: str, value: object) -> None:
        self._changes.set(module, name, value)
        self.bound.append(f"{module.__name__}.{name}")


class BindingFinder(importlib.abc.MetaPathFinder):
    """Import finder that binds each module of a release right after its execution."""

    def __init__(self, bind: Callable[[types.ModuleType], None]) -> None:
        self._bind = bind

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not _is_of_release(fullname):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_bind(module: types.ModuleType) -> None:
            execute(module)
            self._bind(module)

        vars(spec.loader)["exec_module"] = execute_and_bind
        return spec


def bind_when_imported(binder: ShimBinder, changes: AttributePatches) -> None:
    """Bind every module of the release when it is imported."""
    finder = BindingFinder(binder.bind)
    sys.meta_path.insert(0, finder)
    changes.on_undo(lambda: sys.meta_path.remove(finder))


def _refuse_compilation(*names: object, **_: object) -> None:
    """Refuse to compile the kernel that a release names part by part.

    Raises:
        KernelUnavailableError: always.
    """
    raise KernelUnavailableError(
        f"kernel {' '.join(map(str, names))}: must not be compiled without a GPU; "
        "expected one that has an equivalent here"
    )


def _is_defined_in(module: types.ModuleType, name: str) -> bool:
    value = vars(module).get(name)
    return isinstance(value, types.FunctionType) and value.__module__ == module.__name__


def _is_of_release(name: str) -> bool:
    return name.partition(".")[0] == _RELEASE


def _is_release_kernel(value: object, functions: Mapping[str, Callable[..., None]]) -> bool:
    return (
        isinstance(value, types.FunctionType)
        and value.__name__ in functions
        and _is_of_release(value.__module__)
    )


def _names(module: types.ModuleType) -> set[str]:
    """Return the global names that the functions and methods of a module use."""
    found: set[str] = set()
    for value in list(vars(module).values()):
        members = list(vars(value).values()) if isinstance(value, type) else [value]
        for member in members:
            if getattr(value, "__module__", None) == module.__name__:
                _collect(_code(member), found)
    return found


def _code(member: object) -> types.CodeType | None:
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    # Not hasattr: placeholders of kernels (0.5.22 on) return a value for every attribute.
    while "__wrapped__" in getattr(member, "__dict__", {}):
        member = member.__wrapped__  # type: ignore[attr-defined]
    return member.__code__ if isinstance(member, types.FunctionType) else None


def _collect(code: types.CodeType | None, found: set[str]) -> None:
    if code is None:
        return
    found.update(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _collect(constant, found)


def _package(name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    return module


def _forget(name: str) -> Callable[[], None]:
    return lambda: vars(sys)["modules"].pop(name, None)
