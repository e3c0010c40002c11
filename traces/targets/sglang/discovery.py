"""Discovery of a release's modules, builders, strategies, pools, allocators and controllers.

They are found by module, base class and methods, not by name, so that a builder or pool that a
later release adds is recorded without a change here.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from torch.utils import cpp_extension

from traces.targets.common.source_reads import source_files
from traces.targets.sglang.aliases import aliases
from traces.targets.sglang.errors import UnsupportedByRelease

PACKAGE = "sglang"
_HISPARSE = f"{PACKAGE}.srt.managers.hisparse_coordinator"

_POOL_PACKAGE = "sglang.srt.mem_cache"
_CONTROLLER_MODULE = "sglang.srt.managers.cache_controller"
# Storage backends, native extensions and sparse attention need packages and wire no caches.
_SKIPPED = ("storage", "sparsity", "cpp_radix_tree", "cpp_utils", "rust_tree_core", "triton_ops")
_BUILDER_PREFIXES = ("build_", "attach_")
_HOST_PARTS = ("pool_host", "memory_pool_host")


@dataclass(frozen=True, kw_only=True)
class SglangRelease:
    """The parts of one release that wire KV caches; its classes are looked for once."""

    # Everything below ``sglang.srt.mem_cache`` that can be imported, and the controller.
    modules: tuple[ModuleType, ...]
    missing: dict[str, str]  # modules that cannot, with the reason on one line

    @cached_property
    def classes(self) -> tuple[type, ...]:
        """Every class of the modules, where it is defined."""
        return tuple(
            value
            for module in self.modules
            for value in vars(module).values()
            if isinstance(value, type) and value.__module__ == module.__name__
        )

    @cached_property
    def _classes_by_name(self) -> dict[str, type]:
        return {cls.__name__: cls for cls in self.classes}

    def find(self, *names: str) -> type | None:
        """Return the first class that has one of the names, in the order of the names."""
        found = self._classes_by_name
        return next((found[name] for name in names if name in found), None)

    @cached_property
    def assemblers(self) -> tuple[ModuleType, ...]:
        """The modules that define stack builders."""
        return tuple(module for module in self.modules if _is_assembler(module))

    def builder_functions(self) -> dict[str, FunctionType]:
        """Return every function that builds or attaches, by name."""
        return {
            name: value
            for module in self.assemblers
            for name, value in vars(module).items()
            if name.startswith(_BUILDER_PREFIXES) and _is_defined_in(value, module)
        }

    def strategies(self) -> tuple[type, ...]:
        """Return the classes of the assemblers that choose and build a stack, bases left out."""
        assemblers = {module.__name__ for module in self.assemblers}
        return tuple(
            cls
            for cls in self.classes
            if cls.__module__ in assemblers
            and isinstance(vars(cls).get("build"), FunctionType)
            and isinstance(vars(cls).get("matches"), FunctionType)
            and not cls.__subclasses__()
        )

    def host_pools(self) -> tuple[type, ...]:
        """Return the classes that own host memory and allocate its slots."""
        group = self.find("HostPoolGroup")
        return tuple(
            cls
            for cls in self.classes
            if any(part in _HOST_PARTS for part in cls.__module__.split("."))
            and hasattr(cls, "alloc")
            and hasattr(cls, "free")
            and cls is not group
        )

    def device_pools(self) -> tuple[type, ...]:
        """Return the classes that own device memory."""
        base = self.find("KVCache")
        hosts = set(self.host_pools())
        return tuple(
            cls
            for cls in self.classes
            if cls not in hosts
            and ((base is not None and issubclass(cls, base)) or _is_named_pool(cls))
        )

    def allocators(self) -> tuple[type, ...]:
        """Return the classes that allocate slots: allocators, host pools, some device pools."""
        return tuple(
            cls
            for cls in self.classes
            if isinstance(vars(cls).get("alloc"), FunctionType)
            or isinstance(vars(cls).get("free"), FunctionType)
        )

    def controllers(self) -> tuple[type, ...]:
        """Return the cache controllers."""
        base = self.find("HiCacheController")
        return tuple(cls for cls in self.classes if base is not None and issubclass(cls, base))

    def stack_builders(self) -> tuple[str, ...]:
        """Return the names of all stack builders, attach functions and strategies, sorted."""
        names = {
            name
            for name in self.builder_functions()
            if name.startswith("attach_") or name.endswith("_stack")
        }
        return tuple(sorted(names | {cls.__name__ for cls in self.strategies()}))


def discover_release() -> SglangRelease:
    """Import what the installed release has and return it.

    Raises:
        ImportError: there is no ``sglang.srt.mem_cache`` at all.
    """
    package = importlib.import_module(_POOL_PACKAGE)
    modules, missing = [package], {}
    with _refuse_compilation():
        for name in (*_module_names(package), _CONTROLLER_MODULE):
            try:
                modules.append(importlib.import_module(name))
            except Exception as error:  # noqa: BLE001 - an import of the target may raise anything
                missing[name] = " ".join(f"{type(error).__name__}: {error}".split())
    return SglangRelease(modules=tuple(modules), missing=missing)


@cache
def installed_release() -> SglangRelease:
    """Return the installed release; its modules are imported once."""
    return discover_release()


def find_class(name: str) -> Any:  # noqa: ANN401 - a class of the release
    """Return a class by its canonical name.

    Raises:
        UnsupportedByRelease: the release has none.
    """
    found = installed_release().find(*all_names_of(name))
    if found is None:
        raise UnsupportedByRelease(f"no class {name}")
    return found


def find_builder(name: str) -> Any:  # noqa: ANN401 - a function of the release
    """Return a stack builder or attach function by its canonical name.

    Raises:
        UnsupportedByRelease: the release has no assembler module, or not this function.
    """
    functions = installed_release().builder_functions()
    if not functions:
        raise UnsupportedByRelease("no assembler module")
    for alias in all_names_of(name):
        if alias in functions:
            return functions[alias]
    raise UnsupportedByRelease(f"no function {name}")


def find_part(module: str, name: str) -> Any | None:  # noqa: ANN401 - anything of the release
    """Return a member of a module that a release may lack; None without module or member.

    Raises:
        ImportError: the module is there and something it imports is not.
    """
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and module.startswith(error.name):
            return None
        raise
    return getattr(found, name, None)


@cache
def hisparse_class() -> tuple[type, ...]:
    """Return the class that keeps a part of each request's rows on the device, if there is one."""
    found = find_part(_HISPARSE, "HiSparseCoordinator")
    return () if found is None else (found,)


def find_hisparse() -> Any:  # noqa: ANN401 - a class of the release
    """Return the one class of :func:`hisparse_class`.

    Raises:
        UnsupportedByRelease: the release has none.
    """
    if not hisparse_class():
        raise UnsupportedByRelease("no class HiSparseCoordinator")
    return hisparse_class()[0]


def all_names_of(newest: str) -> tuple[str, ...]:
    """Return every name that something ever had, the newest first."""
    older = (old for old, new in aliases().callees.items() if new == newest)
    return (newest, *older)


@contextmanager
def _refuse_compilation() -> Iterator[None]:
    """Raise in modules that compile native code on import, which takes minutes."""

    def refuse(*_arguments: object, **_named: object) -> None:
        raise ImportError("compiles native code when it is imported")

    before = cpp_extension.load, cpp_extension.load_inline
    cpp_extension.load = cpp_extension.load_inline = refuse
    try:
        yield
    finally:
        cpp_extension.load, cpp_extension.load_inline = before


def method_definitions(classes: tuple[type, ...], name: str) -> Iterator[tuple[type, FunctionType]]:
    """Yield every definition of a method, once."""
    for cls in classes:
        method = vars(cls).get(name)
        if isinstance(method, FunctionType):
            yield cls, method


def _module_names(package: ModuleType) -> Iterator[str]:
    """Yield the names of all modules below a package, in order; a folder needs no ``__init__``."""
    for place in package.__path__:
        root = Path(place)
        for file in source_files(root):
            parts = file.relative_to(root).with_suffix("").parts
            if not any(part in _SKIPPED for part in parts) and parts[-1] != "__init__":
                yield ".".join((package.__name__, *parts))


def _is_assembler(module: ModuleType) -> bool:
    return any(
        name.startswith("build_") and name.endswith("_stack") and _is_defined_in(value, module)
        for name, value in vars(module).items()
    )


def _is_defined_in(value: object, module: ModuleType) -> bool:
    return isinstance(value, FunctionType) and value.__module__ == module.__name__


def _is_named_pool(cls: type) -> bool:
    return cls.__name__.endswith("Pool") and cls.__module__.startswith(_POOL_PACKAGE)
