"""Formatting of values as short texts that two processes can compare."""

import inspect
import json
from collections import deque
from collections.abc import Iterable, Iterator
from enum import Enum
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType
from typing import Any

from traces.divergence.logs import ValueText
from traces.errors import RecorderError
from traces.recording.encode import Encoder, Plain
from traces.recording.object_ids import ObjectIds
from traces.recording.probes import Target

TEXT_MAX = 1000
_DEPTH_MAX = 4
# Where a process has its mappings: another place in every run. No size is so large.
_ADDRESSES = range(1 << 44, 1 << 47)
_MAPS_FILE = Path("/proc/self/maps")
_HEAP_GROWTH = 1 << 28
_SOURCE_PATH = '{"place": "source"}'
_PROJECT_ROOT = Path(__file__).resolve().parent.parent.parent

_ABSENT = object()
# Equal values of these types have equal texts. A float has not: 0.0 equals -0.0.
_PLAIN_TYPES = frozenset((type(None), bool, int, str))


class ValueFormatter:
    """Formatter of any value that a function of the package is given; it never raises.

    Its labels of objects are independent of those of an ordinary recording.

    Attributes:
        callables: names of all functions formatted so far.
    """

    def __init__(self, target: Target) -> None:
        self.callables: set[str] = set()
        self._known: dict[tuple[type, object], ValueText] = {}
        # One object for equal texts: logs are pickled, and most of their texts are repeated.
        self._texts: dict[ValueText, ValueText] = {}
        self._labels = ObjectIds()
        self._encoder = Encoder(self._labels, on_reference=self._label)
        self._heap = _heap()
        self._package = f"{target.package}."
        self._roots = tuple(json.dumps(str(root))[1:-1] for root in (target.root, _PROJECT_ROOT))
        target.register_types(self._encoder)

    def text_of(self, value: object) -> ValueText:
        """Return a value's text; all values that hold paths of source files have the same."""
        kind = type(value)
        if kind not in _PLAIN_TYPES:
            return self._formatted(value)
        key = (kind, value)
        if key not in self._known:
            self._known[key] = self._formatted(value)
        return self._known[key]

    def _formatted(self, value: object) -> ValueText:
        text = _ENCODER.encode(self._plain(value, 0))
        if any(root in text for root in self._roots):
            return _SOURCE_PATH
        if len(text) > TEXT_MAX:
            text = f"{text[:TEXT_MAX]}... {sha256(text.encode()).hexdigest()[:16]}"
        return self._texts.setdefault(text, text)

    def state(self, name: str, value: object) -> Iterator[tuple[str, ValueText]]:
        """Yield the attributes of an object of the package, ``name.attribute`` each."""
        if not type(value).__module__.startswith(self._package) or isinstance(value, type):
            return
        for attribute, item in attributes(value):
            yield f"{name}.{attribute}", self.text_of(item)

    def _label(self, value: object) -> str:
        name = self._labels.name_of(type(value)) or type(value).__qualname__
        return self._labels.label(value, name)

    def _plain(self, value: Any, depth: int) -> Plain:  # noqa: ANN401
        if isinstance(value, Enum):
            value = value.value
        if self._is_address(value):
            return {"address": "memory"}
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if depth > _DEPTH_MAX:
            return _type_name(value)
        if isinstance(value, MethodType | BuiltinMethodType):
            # A function of a C module has the module as its owner.
            owner = value.__self__
            bound = () if isinstance(owner, ModuleType) else (self._plain(owner, depth + 1),)
            return self._callable(value.__qualname__, *bound)
        if isinstance(value, FunctionType):
            name = _function_name(inspect.unwrap(value))
            return self._callable(name, *self._closed_over(value, depth))
        if isinstance(value, partial):
            return {"partial": self._items((value.func, *value.args), depth)}
        # Copies: threads of the program change what is looked through.
        if isinstance(value, list | tuple | deque):
            return self._items(tuple(value), depth)
        if isinstance(value, dict):
            pairs = [self._items(pair, depth) for pair in tuple(value.items())]
            # The order in which a dictionary was filled is no difference.
            return {"map": sorted(pairs, key=lambda pair: json.dumps(pair, default=_type_name))}
        return self._registered(value)

    def _items(self, values: Iterable[Any], depth: int) -> list[Plain]:
        return [self._plain(value, depth + 1) for value in values]

    def _registered(self, value: object) -> Plain:
        if type(value).__module__.startswith(self._package) and isinstance(value, type):
            return {"class": value.__qualname__}
        try:
            return self._without_addresses(self._encoder.encode(value, "value"))
        except (RecorderError, AttributeError, RuntimeError, TypeError):
            return _type_name(value)

    def _is_address(self, value: object) -> bool:
        return type(value) is int and (value in _ADDRESSES or value in self._heap)

    def _without_addresses(self, value: Plain) -> Plain:
        if isinstance(value, list):
            return [self._without_addresses(item) for item in value]
        if isinstance(value, dict):
            return {key: self._without_addresses(item) for key, item in value.items()}
        return {"address": "memory"} if self._is_address(value) else value

    def _callable(self, name: str, *inside: Plain) -> Plain:
        self.callables.add(name)
        return {"callable": name, "of": list(inside)}

    def _closed_over(self, function: FunctionType, depth: int) -> Iterator[Plain]:
        for cell in function.__closure__ or ():
            try:
                yield self._plain(cell.cell_contents, depth + 1)
            except ValueError:
                yield None


def _heap() -> range:
    """Return the addresses of the heap, and as many above it as it may still grow by.

    An interpreter that is not built for any place has it far below the mappings, among numbers that
    may be sizes.
    """
    try:
        lines = _MAPS_FILE.read_text().splitlines()
    except OSError:
        return range(0)
    places = (line.partition(" ")[0].split("-") for line in lines if line.endswith("[heap]"))
    return next((range(int(a, 16), int(b, 16) + _HEAP_GROWTH) for a, b in places), range(0))


def attributes(value: object) -> list[tuple[str, object]]:
    """Return the attributes of an object, slots included, by name; reads no property.

    Nor does it run a ``__getattr__`` of the release, which may need what is not set yet.
    """
    found = dict(_stored(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            private = slot.startswith("__") and not slot.endswith("__")
            name = f"_{kind.__name__.lstrip('_')}{slot}" if private else slot
            item = _ABSENT if name.startswith("__") else _stored(value, name, _ABSENT)
            if item is not _ABSENT:
                found[name] = item
    return sorted(found.items())


def _stored(value: object, name: str, default: Any) -> Any:  # noqa: ANN401
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return default


def _function_name(function: FunctionType) -> str:
    """Return a function's name; of a lambda also the names it refers to."""
    if function.__name__ != "<lambda>":
        return function.__qualname__
    return " ".join((function.__qualname__, *function.__code__.co_names))


def _type_name(value: object) -> Plain:
    return {"type": f"{type(value).__module__}.{type(value).__qualname__}"}


_ENCODER = json.JSONEncoder(sort_keys=True, default=_type_name)
