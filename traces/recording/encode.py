"""Encoding of a running program's values as plain JSON, for a closed list of types.

A type that is neither listed here nor registered by the target is an error.
A ``repr`` is never taken: it would hide what it leaves out and show addresses.

========================  ==========================================================
value                     encoded
========================  ==========================================================
None bool int float str   itself; NaN and infinity are refused
enum member               its value
list, tuple               list
dict                      ``{"map": [[key, value], ...]}`` in order of keys
set, frozenset            ``{"set": [...]}`` in order
torch.dtype               ``{"dtype": "bfloat16"}``
1-D int32, int64 tensor   ``{"slots": "64-127,192"}``
other tensor              ``{"tensor": {"shape": [...], "dtype": "..."}}``
registered reference      ``{"ref": "MLATokenToKVPoolHost#1"}``
registered value          ``{"object": "PoolTransfer", "fields": {...}}``
path                      ``{"path": "last part"}``: where it lies depends on the machine
numpy scalar              ``{"numpy": "float32", "value": 0.5}``
other callable            ``{"callable": true}``
========================  ==========================================================
"""

import dataclasses
import functools
import inspect
import math
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from traces.errors import RecorderError
from traces.recording.object_ids import ObjectIds
from traces.schema.slot_ranges import slot_ranges

if TYPE_CHECKING:
    import torch

Plain: TypeAlias = Any
"""A value that :mod:`traces.schema.canonical` can write."""

Handler: TypeAlias = Callable[[Any, str], Plain]
"""Encodes a value of one registered class; the second argument is the place, for errors."""

_SCALARS = frozenset((type(None), bool, int, str))
_MAX_DEPTH = 40


@dataclasses.dataclass
class _WithFactory:
    field: list[int] = dataclasses.field(default_factory=list)


# Stands in generated signatures for "made anew by the constructor"; it has no public name.
FACTORY_DEFAULT: object = inspect.signature(_WithFactory).parameters["field"].default


class _DeferredSlots(NamedTuple):
    """Slots of a CUDA tensor that were copied; the tensor is not kept alive."""

    tensor: "weakref.ref[torch.Tensor]"
    version: int
    holder: dict[str, Plain]


class Encoder:
    """Encodes values; a target registers its types before the first call.

    ``on_reference`` returns the label of an object that is encoded as a reference.
    """

    def __init__(self, labels: ObjectIds, *, on_reference: Callable[[object], str]) -> None:
        self._labels = labels
        self._on_reference = on_reference
        self._handlers: dict[type, Handler] = {}
        self._handler_of: dict[type, Handler | None] = {}
        self._packages: tuple[str, ...] = ()
        self._deferred_slots: list[tuple[dict[str, Plain], torch.Tensor]] = []
        self._deferred_of: dict[int, _DeferredSlots] = {}
        self._depth = 0
        self.encode_fields = False
        """Whether dataclasses, attrs and pydantic classes are encoded without registration."""
        self.register_reference(threading.Event, "Event")

    def register(self, kind: type, handler: Handler) -> None:
        """Encode objects of a class and its subclasses with ``handler``."""
        self._handlers[kind] = handler
        self._handler_of.clear()

    def register_reference(self, kind: type, name: str) -> None:
        """Encode objects of a class and its subclasses as ``{"ref": "name#ordinal"}``."""
        self._labels.register(kind, name)
        self.register(kind, self._reference)

    def register_fields(
        self, kind: type, name: str, *, is_reference: Callable[[object], bool]
    ) -> None:
        """Encode objects of a class by their declared fields, or some by reference."""
        self._labels.register(kind, name)

        def encode(value: object, where: str) -> Plain:
            if is_reference(value):
                return self._reference(value, where)
            return self._named_fields(value, declared_fields(type(value)) or (), where)

        self.register(kind, encode)

    def register_package(self, package: str) -> None:
        """Encode objects of all other classes of a package by reference."""
        self._packages += (f"{package}.",)
        self._handler_of.clear()

    def register_value(self, kind: type) -> None:
        """Encode objects of a dataclass by their fields, those that start with ``_`` left out."""
        self.register(kind, self._fields)

    def label(self, thing: object, name: str) -> str:
        """Return the label of an object, ``name#ordinal`` when it is seen first."""
        return self._labels.label(thing, name)

    def encode(self, value: object, where: str) -> Plain:
        """Return the plain form of a value; ``where`` is ``callee.argument``, for errors.

        Raises:
            RecorderError: the type is not known, the value has no plain form, or it holds itself.
        """
        if type(value) in _SCALARS:
            return value
        if self._depth >= _MAX_DEPTH:
            raise RecorderError(
                where, "values must not nest too deep", expected=f"{_MAX_DEPTH} levels", got="more"
            )
        self._depth += 1
        try:
            return self._encode(value, where)
        finally:
            self._depth -= 1

    def slots(self, tensor: "torch.Tensor") -> dict[str, Plain]:
        """Return ``{"slots": runs}`` for a 1-D integer tensor.

        Order: the content of a CUDA tensor is copied on its own device in the order of the current
        stream and read in :meth:`settle`; the host does not wait here.
        """
        if tensor.is_cuda:
            return self._defer(tensor)
        return {"slots": slot_ranges(tensor)}

    def _defer(self, tensor: "torch.Tensor") -> dict[str, Plain]:
        """Copy slots, once for all layers that move them, and return what :meth:`settle` fills.

        They are copied again when torch has changed them. A kernel that writes them by address,
        between two moves of the same tensor, is not noticed.
        """
        known = self._deferred_of.get(id(tensor))
        version = tensor._version  # noqa: SLF001 - torch counts the changes of a tensor in place
        if known is not None and known.tensor() is tensor and known.version == version:
            return known.holder
        holder: dict[str, Plain] = {"slots": ""}
        self._deferred_slots.append((holder, tensor.detach().clone()))
        self._deferred_of[id(tensor)] = _DeferredSlots(
            tensor=weakref.ref(tensor), version=version, holder=holder
        )
        return holder

    def settle(self) -> None:
        """Fill in the slots that were still on a device. Blocks until its work is done."""
        torch = sys.modules.get("torch")
        by_kind: dict[tuple[Any, Any], list[tuple[dict[str, Plain], Any]]] = {}
        for holder, copied in self._deferred_slots:
            by_kind.setdefault((copied.device, copied.dtype), []).append((holder, copied))
        for (device, _), deferred in by_kind.items():
            assert torch is not None, "slots that were deferred are a tensor of it"
            torch.cuda.synchronize(device)
            # One copy to the host for all: each would cost more than what it holds.
            flat = [copied.reshape(-1) for _, copied in deferred]
            parts = torch.cat(flat).cpu().split([len(part) for part in flat])
            for (holder, _), part in zip(deferred, parts, strict=True):
                holder["slots"] = slot_ranges(part)
        self._deferred_slots.clear()
        self._deferred_of.clear()

    def _encode(self, value: object, where: str) -> Plain:
        if isinstance(value, Enum):
            return self.encode(value.value, where)
        handler = self._handler(type(value))
        if handler is not None:
            return handler(value, where)
        if isinstance(value, float | list | tuple | dict | set | frozenset):
            return self._builtin(value, where)
        if "torch" in sys.modules:
            found = self._torch(value)
            if found is not None:
                return found
        return self._other(value, where)

    def _other(self, value: object, where: str) -> Plain:
        """Encode what may be a value of any class."""
        if isinstance(value, PurePath):
            return {"path": value.name}
        if "numpy" in sys.modules and isinstance(value, sys.modules["numpy"].generic):
            plain = self.encode(value.item(), where)
            return {"numpy": str(value.dtype), "value": plain}
        if self.encode_fields and (names := declared_fields(type(value))) is not None:
            return self._named_fields(value, names, where)
        if callable(value):
            return {"callable": True}
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        expected = "a registered type"
        if self.encode_fields:
            expected = "a watched class, one with declared fields, or a plain form in values="
        raise RecorderError(where, "type must be known", expected=expected, got=kind)

    def _handler(self, kind: type) -> Handler | None:
        if kind not in self._handler_of:
            found = (self._handlers[base] for base in kind.__mro__ if base in self._handlers)
            of_package = self._reference if kind.__module__.startswith(self._packages) else None
            self._handler_of[kind] = next(found, of_package)
        return self._handler_of[kind]

    def _builtin(self, value: object, where: str) -> Plain:
        match value:
            case float():
                if not math.isfinite(value):
                    raise RecorderError(where, "must be finite", expected="a number", got=value)
                return float(value)
            case list() | tuple():
                return [self.encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
            case dict():
                pairs = [
                    [self.encode(key, where), self.encode(item, f"{where}[{key!r}]")]
                    for key, item in value.items()
                ]
                return {"map": sorted(pairs, key=lambda pair: _sort_key(pair[0], where))}
            case _:
                items = [self.encode(item, where) for item in cast("Iterable[object]", value)]
                return {"set": sorted(items, key=lambda item: _sort_key(item, where))}

    def _torch(self, value: object) -> Plain | None:
        torch = sys.modules["torch"]
        if isinstance(value, torch.Tensor):
            if value.dim() == 1 and value.dtype in (torch.int32, torch.int64):
                return self.slots(value)
            return {"tensor": {"shape": list(value.shape), "dtype": dtype_name(value.dtype)}}
        if isinstance(value, torch.dtype):
            return {"dtype": dtype_name(value)}
        if isinstance(value, torch.device):
            # Which device it is depends on the machine, which a trace must not.
            return {"device": "torch"}
        return None

    def _reference(self, value: object, where: str) -> Plain:
        del where
        return {"ref": self._on_reference(value)}

    def _fields(self, value: Any, where: str) -> Plain:  # noqa: ANN401 - a registered dataclass
        return self._named_fields(value, [field.name for field in dataclasses.fields(value)], where)

    def _named_fields(self, value: object, names: Iterable[str], where: str) -> Plain:
        fields = {
            name: self.encode(getattr(value, name), f"{where}.{name}")
            for name in names
            if not name.startswith("_")
        }
        return {"object": type(value).__name__, "fields": fields}


def declared_fields(kind: type) -> list[str] | None:
    """Return the declared fields of a dataclass, attrs or pydantic class; None for others."""
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if attributes := getattr(kind, "__attrs_attrs__", None):
        return [attribute.name for attribute in attributes]
    declared = getattr(kind, "__pydantic_fields__", None)
    return None if declared is None else list(declared)


@functools.cache
def dtype_name(dtype: "torch.dtype") -> str:
    """Return ``bfloat16`` for ``torch.bfloat16``."""
    return str(dtype).removeprefix("torch.")


def _sort_key(key: Plain, where: str) -> tuple[str, Any]:
    """Order mixed keys by type first; numbers by value, lists by their items."""
    if key is None or isinstance(key, bool | int | float):
        return ("", -math.inf if key is None else key)
    if isinstance(key, str):
        return ("text", key)
    if isinstance(key, list):
        return ("list", [_sort_key(item, where) for item in key])
    if isinstance(key, dict) and "ref" in key:
        return ("ref", key["ref"])
    raise RecorderError(where, "keys must have an order", expected="number or text", got=key)
