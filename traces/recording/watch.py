"""A target made of names: the modules, classes and functions of any package.

``record(watch=["mypkg.pools", "mypkg.cache:Cache"])`` records every call of the public functions,
constructors and methods that these names stand for, the tensors that watched objects hold when they
are complete, torch's copies between these tensors, and the order of torch's CUDA streams.
"""

import dataclasses
import importlib
import pkgutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from traces.errors import InstrumentError, RecorderError
from traces.recording.buffers import tensors_within
from traces.recording.encode import Encoder, Plain, declared_fields
from traces.recording.instrument import require_plain_function
from traces.recording.probes import (
    BufferPath,
    CallProbe,
    CopyProbe,
    PoolView,
    Probe,
    ThreadProbe,
)
from traces.schema.model import PoolSide

if TYPE_CHECKING:
    import torch

Watched: TypeAlias = str | ModuleType | type | FunctionType
"""``mypkg.pools``, ``mypkg.cache:Cache``, ``mypkg.cache:Cache.load``, or the object itself."""

ValueEncoders: TypeAlias = Mapping[type, Callable[[Any], object]]
"""Class to a function that returns a value in plain form: numbers, text, lists, dicts, fields."""

_SPECIAL_METHODS = ("__init__", "__call__")
_EXPECTED = "a module, class or function"


class WatchTarget:
    """A target that watches what it is given.

    Args:
        watch: at least one name or object; all of one top-level package or module.
        values: plain forms for classes that are no dataclasses, attrs or pydantic classes.

    Raises:
        RecorderError: a name cannot be imported, is of another package, or cannot be watched.
    """

    name = "watch"

    def __init__(self, watch: Sequence[Watched], *, values: ValueEncoders) -> None:
        if isinstance(watch, str) or not watch:
            got = "none" if not watch else "a text"
            raise RecorderError("watch", "must be a list", expected=f"{_EXPECTED} each", got=got)
        self._values = values
        self._classes: dict[type, None] = {}
        self._probes: dict[FunctionType, CallProbe] = {}
        packages: dict[str, None] = {}
        module = ""
        for item in watch:
            name = item if isinstance(item, str) else str(getattr(item, "__name__", item))
            found = _resolve(item) if isinstance(item, str) else item
            if not isinstance(found, ModuleType | type | FunctionType):
                got = type(found).__name__
                raise RecorderError(f"watch {name}", "must be code", expected=_EXPECTED, got=got)
            packages[_module_of(found).partition(".")[0]] = None
            module = module or _module_of(found)
            self._add(found, name)
        if len(packages) > 1:
            expected, *others = packages
            rule = "must lie in one package"
            raise RecorderError("watch", rule, expected=expected, got=", ".join(others))
        if not self._probes:
            got = ", ".join(map(str, watch))
            raise RecorderError("watch", "must hold functions", expected="at least one", got=got)
        self.package, self.root = _place_of(module)

    def probes(self) -> Sequence[Probe]:
        """Return a probe of every watched function, of torch's streams and of its copies."""
        found: tuple[Probe, ...] = (*self._probes.values(), ThreadProbe())
        if "torch" not in sys.modules:
            return found
        from traces.recording.torch_streams import TorchStreams

        streams = TorchStreams()
        copies = CopyProbe(stream_of=streams.current_name)
        return (*found, *streams.order_probes(), copies)

    def builders(self) -> tuple[str, ...]:
        """Return the names of the watched plain functions, sorted."""
        return tuple(sorted(p.callee for p in self._probes.values() if not p.method))

    def register_types(self, encoder: Encoder) -> None:
        """Register watched classes by reference and the given plain forms."""
        for kind in self._classes:
            if declared_fields(kind) is not None and not _has_methods(kind):
                # Made before the recording, a reference to it would hide all that it holds.
                encoder.register_fields(kind, kind.__name__, is_reference=_holds_tensors)
            else:
                encoder.register_reference(kind, kind.__name__)
        for kind, plain in self._values.items():
            encoder.register(kind, _value_handler(encoder, plain))
        encoder.encode_fields = True

    def view(self, pool: object) -> PoolView | None:
        """Return how to read an object's tensors; None when its class is not watched."""
        if not any(base in self._classes for base in type(pool).__mro__):
            return None
        tensors = tuple(_tensors_of(pool))
        if not tensors:
            return None
        side: PoolSide = "host" if all(tensor.is_pinned() for _, tensor in tensors) else "device"
        return PoolView(
            side=side,
            layout="",
            is_pinned=lambda tensor: tensor.is_pinned(),
            tensors=_tensors_of,
            keeps_tensors=True,
        )

    def _add(self, found: ModuleType | type | FunctionType, name: str) -> None:
        if isinstance(found, ModuleType):
            for module in _modules_under(found):
                for value in _public(module):
                    self._add_class(value) if isinstance(value, type) else self._add_function(value)
        elif isinstance(found, type):
            self._add_class(found)
        else:
            try:
                require_plain_function(found)
            except InstrumentError as error:
                expected, got = (
                    "a function that runs in one go",
                    "a generator or coroutine function",
                )
                raise RecorderError(
                    f"watch {name}", "must be seen whole", expected=expected, got=got
                ) from error
            self._add_function(found)

    def _add_function(self, function: FunctionType) -> None:
        owner, _, name = function.__qualname__.rpartition(".")
        method = name if owner and not owner.endswith("<locals>") else ""
        if method and isinstance(cls := _resolve(f"{function.__module__}:{owner}"), type):
            self._classes[cls] = None
        callee = function.__qualname__.rpartition("<locals>.")[2]
        self._add_probe(function, callee=callee, method=method, shows_subject=bool(method))

    def _add_class(self, cls: type) -> None:
        if not issubclass(cls, tuple) and not hasattr(cls, "__pydantic_fields__"):
            # Of these a constructor is not seen, so that they show by their fields.
            self._classes[cls] = None
        for name, value in vars(cls).items():
            function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
            if not isinstance(function, FunctionType) or (
                name.startswith("_") and name not in _SPECIAL_METHODS
            ):
                continue
            callee = cls.__name__ if name == "__init__" else f"{cls.__name__}.{name}"
            method = "" if isinstance(value, staticmethod) else name
            is_bound = not isinstance(value, staticmethod | classmethod)
            self._add_probe(function, callee=callee, method=method, shows_subject=is_bound)

    def _add_probe(
        self, function: FunctionType, *, callee: str, method: str, shows_subject: bool
    ) -> None:
        try:
            require_plain_function(function)
        except InstrumentError:
            # Generators and coroutines of a watched module or class have no single end.
            return
        self._probes[function] = CallProbe(
            function=function,
            callee=callee,
            role="constructor" if method == "__init__" else "operation",
            method=method,
            names_pools=None,
            shows_subject=shows_subject,
        )


def watched_target(
    watch: Sequence[Watched], *, values: ValueEncoders, folder: Path
) -> WatchTarget | str:
    """Return a target for what is named, or else configured; the name of our own for neither.

    Raises:
        RecorderError: a name or the configuration is wrong, or ``values`` are given for no name.
    """
    names = watch or configured_watch(folder)
    if names:
        return WatchTarget(names, values=values)
    if values:
        raise RecorderError("record", "values need names", expected="watch=[...]", got="none")
    return "native"


def configured_watch(folder: Path) -> tuple[str, ...]:
    """Return ``[tool.goldentrace] watch`` of the nearest ``pyproject.toml``; empty for none.

    Raises:
        RecorderError: the file cannot be read, or the setting is not a list of names.
    """
    for place in (folder, *folder.parents):
        file = place / "pyproject.toml"
        if not file.is_file():
            continue
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise RecorderError(
                str(file), "must be readable", expected="TOML", got=error
            ) from error
        watch = table.get("tool", {}).get("goldentrace", {}).get("watch", [])
        if not isinstance(watch, list) or not all(isinstance(name, str) for name in watch):
            subject = f"{file} [tool.goldentrace] watch"
            raise RecorderError(subject, "must be names", expected='["mypkg.pools"]', got=watch)
        return tuple(watch)
    return ()


def _resolve(name: str) -> object:
    module, _, path = name.partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in path.split(".") if path else ():
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        got = f"{type(error).__name__}: {error}"
        raise RecorderError(
            f"watch {name}", "must be importable", expected=_EXPECTED, got=got
        ) from error
    return found


def _module_of(found: ModuleType | type | FunctionType) -> str:
    return found.__name__ if isinstance(found, ModuleType) else str(found.__module__)


def _modules_under(module: ModuleType) -> Iterator[ModuleType]:
    yield module
    for info in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{module.__name__}."):
        if not info.name.endswith(".__main__"):
            yield importlib.import_module(info.name)


def _public(module: ModuleType) -> Iterator[Any]:
    for name, value in vars(module).items():
        is_own = getattr(value, "__module__", None) == module.__name__
        if is_own and not name.startswith("_") and isinstance(value, type | FunctionType):
            yield value


def _place_of(module: str) -> tuple[str, Path]:
    """Return the top-level package of a module, or the script it is, and the folder it lies in."""
    package = module.partition(".")[0]
    # Modules of tests may be imported without their package.
    found = sys.modules.get(package, sys.modules[module])
    if getattr(found, "__file__", None) is None:
        paths = list(getattr(found, "__path__", ()))
        return package, Path(paths[0]).parent if paths else Path.cwd()
    file = Path(str(found.__file__))
    if file.name == "__init__.py":
        return package, file.parent.parent
    return file.stem, file.parent


def _value_handler(encoder: Encoder, plain: Callable[[Any], object]) -> Callable[[Any, str], Plain]:
    return lambda value, where: encoder.encode(plain(value), where)


def _tensors_of(holder: object) -> Iterator[tuple[BufferPath, "torch.Tensor"]]:
    """Yield the public tensors of an object, those of lists and dicts, and a module's own."""
    if "torch" not in sys.modules:
        return
    import torch

    if isinstance(holder, torch.nn.Module):
        own = (*holder.named_parameters(recurse=False), *holder.named_buffers(recurse=False))
        yield from ((BufferPath.of(name), tensor) for name, tensor in own)
    for name, value in _attributes(holder):
        if not name.startswith("_"):
            yield from tensors_within(BufferPath.of(name), value)


def _holds_tensors(value: object) -> bool:
    return next(_tensors_of(value), None) is not None


def _has_methods(kind: type) -> bool:
    own = (base for base in kind.__mro__ if base is not object)
    return any(
        isinstance(value, FunctionType) and not name.startswith("_")
        for base in own
        for name, value in vars(base).items()
    )


def _attributes(holder: object) -> Iterator[tuple[str, object]]:
    yield from getattr(holder, "__dict__", {}).items()
    if dataclasses.is_dataclass(holder) and not hasattr(holder, "__dict__"):
        for field in dataclasses.fields(holder):
            yield field.name, getattr(holder, field.name)
