"""The full state of a stack as one digest: every object reachable from it, and its bytes.

Two mutants with equal traces may still differ in what no trace shows: an attribute that is set and
never used, a free list in another order. Equal fingerprints rule that out for the scenarios run.
"""

import itertools
import sys
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from operator import itemgetter
from types import (
    BuiltinMethodType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef

_PLAIN = (type(None), bool, int, float, str, bytes, complex)
_MADE_AT_RUN_TIME = 1 << 9
"""Flag of a class: CPython's ``Py_TPFLAGS_HEAPTYPE``."""
_BUFFER_LIMIT = 1 << 28
_TABLE_LIMIT = 1 << 20
_CLOCKS = (time.monotonic, time.time, time.perf_counter)
_CLOCK_STARTS = tuple(clock() for clock in _CLOCKS)
_ADDRESS_DTYPES = (torch.int64, torch.uint64)


def fingerprint(roots: Mapping[str, object]) -> str:
    """Return the digest of everything reachable from some objects.

    Objects are numbered in the order of the walk, so that shared objects stay shared and their
    addresses do not count. An integer that is an address counts as the storage and offset it points
    to. Times, source lines and the code of functions do not count; names of functions and the
    values they close over do. Empty when an object of a compiled extension is reached, whose state
    cannot be read: then nothing can be told.
    """
    # Two walks: addresses can be told from other integers only when every storage is known.
    first = _walk_roots(roots, addresses=_StorageAddresses())
    if first.has_unreadable:
        return ""
    return _walk_roots(roots, addresses=_StorageAddresses(first.storages)).sha.hexdigest()


def _walk_roots(roots: Mapping[str, object], *, addresses: "_StorageAddresses") -> "_ObjectWalk":
    walk = _ObjectWalk(addresses)
    for name, root in roots.items():
        walk.hash_text(f"root {name}")
        walk.visit(root)
    return walk


class _StorageAddresses:
    """Table of the storages that an address can point to; first address and bytes of each."""

    def __init__(self, storages: Sequence[tuple[int, int]] = ()) -> None:
        self._ranges = sorted(
            (first, first + size, number) for number, (first, size) in enumerate(storages) if size
        )

    def __call__(self, value: int) -> str:
        """Return the storage and offset that a number points to, or the number."""
        index = bisect_right(self._ranges, value, key=itemgetter(0)) - 1
        if index >= 0:
            first, end, number = self._ranges[index]
            if value < end:
                return f"storage {number} + {value - first}"
        return repr(value)


class _ObjectWalk:
    def __init__(self, addresses: _StorageAddresses) -> None:
        self.sha = sha256()
        self._numbers: dict[int, int] = {}
        self._storages: dict[int, int] = {}
        self._kept: list[object] = []
        self._waiting: deque[object] = deque()
        self._addresses = addresses
        self.storages: list[tuple[int, int]] = []
        self.has_unreadable = False

    def hash_text(self, text: str) -> None:
        self.sha.update(text.encode() + b"\0")

    def visit(self, root: object) -> None:
        """Hash a root, then everything reachable from it, breadth first."""
        self._refer(root)
        while self._waiting:
            value = self._waiting.popleft()
            self.hash_text(f"{self._numbers[id(value)]} {_type_name(value)}")
            self._describe(value)

    def _refer(self, value: object) -> None:
        if type(value) is int:
            self.hash_text(f"int {self._addresses(value)}")
        elif _is_source_line(value) or (isinstance(value, float) and _is_time(value)):
            self.hash_text("a place or a time")
        elif isinstance(value, (*_PLAIN, type, ModuleType)):
            self.hash_text(f"{type(value).__name__} {value!r}")
        else:
            if id(value) not in self._numbers:
                self._numbers[id(value)] = len(self._numbers)
                self._kept.append(value)
                self._waiting.append(value)
            self.hash_text(f"#{self._numbers[id(value)]}")

    def _describe(self, value: object) -> None:
        if isinstance(value, torch.Tensor | np.ndarray):
            self._describe_array(value)
        elif isinstance(value, StorageWeakRef):
            # It contains nothing but the address of its storage.
            self._hash_storage(value.cdata)
        elif isinstance(value, itertools.count):
            self.hash_text(repr(value))
        # Copies: threads of the program, and waits that end, change what is looked through.
        elif isinstance(value, dict | MappingProxyType):
            for key, item in tuple(value.items()):
                self._refer(key)
                self._refer(item)
        elif isinstance(value, list | tuple | deque):
            for item in tuple(value):
                self._refer(item)
        elif isinstance(value, set | frozenset):
            for text in sorted(repr(item) for item in value if isinstance(item, _PLAIN)):
                self.hash_text(text)
        else:
            self._describe_object(value)

    def _describe_array(self, value: torch.Tensor | np.ndarray[Any, Any]) -> None:
        if isinstance(value, torch.Tensor):
            self._describe_tensor(value)
        else:
            self.hash_text(f"{value.shape} {value.strides} {value.dtype}")
            # The bytes of an array of objects are their addresses.
            self.sha.update(b"" if value.dtype == object else value.tobytes())

    def _describe_tensor(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        layout = tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.storage_offset()
        self.hash_text(" ".join(map(str, (*layout, storage.nbytes()))))
        key = storage.data_ptr()
        if key not in self._numbers or storage.nbytes() == 0:
            self._numbers[key] = len(self._numbers)
            if tensor.device.type == "cpu" and storage.nbytes() <= _BUFFER_LIMIT:
                self.storages.append((key, storage.nbytes()))
                self._hash_content(tensor, storage)
        self.hash_text(f"storage {self._numbers[key]}")
        self._hash_storage(storage._cdata)  # noqa: SLF001 - the content of a weak reference

    def _hash_content(self, tensor: torch.Tensor, storage: torch.UntypedStorage) -> None:
        if tensor.dtype in _ADDRESS_DTYPES and storage.nbytes() <= _TABLE_LIMIT:
            numbers = torch.empty(0, dtype=tensor.dtype).set_(storage).tolist()
            self.hash_text(",".join(map(self._addresses, numbers)))
        else:
            flat = torch.empty(0, dtype=torch.uint8).set_(storage)
            self.sha.update(flat.numpy().tobytes())

    def _hash_storage(self, address: int) -> None:
        self.hash_text(f"storage {self._storages.setdefault(address, len(self._storages))}")

    def _describe_object(self, value: object) -> None:
        if isinstance(value, MethodType | BuiltinMethodType):
            self.hash_text(value.__qualname__)
            self._refer(value.__self__)
        elif isinstance(value, FunctionType):
            self.hash_text(value.__qualname__)
            for cell in value.__closure__ or ():
                self._refer(_cell_content(cell))
        else:
            self.has_unreadable |= _is_unreadable(value)
            for name, item in _attributes(value):
                self.hash_text(name)
                self._refer(item)


def _is_unreadable(value: object) -> bool:
    """Return whether an object keeps its state where Python does not see it.

    Those of torch and of the standard library are handles and locks, which keep none that matters.
    """
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    # An extension that names no module puts its classes, made at run time, beside Python's own.
    is_made = bool(kind.__flags__ & _MADE_AT_RUN_TIME)
    is_own = package in sys.stdlib_module_names and not (package == "builtins" and is_made)
    if package == "torch" or is_own:
        return False
    is_declared = any("__slots__" in one.__dict__ for one in kind.__mro__)
    return not is_declared and not hasattr(value, "__dict__")


def _is_source_line(value: object) -> bool:
    """Return whether a value is a file and a line, which pools keep of their callers."""
    if not isinstance(value, tuple) or [type(item) for item in value] != [str, int]:
        return False
    return bool(value[0].endswith(".py"))


def _is_time(value: float) -> bool:
    """Return whether a clock has shown a number since this process began."""
    clocks = zip(_CLOCKS, _CLOCK_STARTS, strict=True)
    return any(start <= value <= clock() for clock, start in clocks)


def _type_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _cell_content(cell: Any) -> object:  # noqa: ANN401
    try:
        return cell.cell_contents
    except ValueError:
        return "empty"


def _attributes(value: object) -> Iterator[tuple[str, object]]:
    own = getattr(value, "__dict__", None)
    if isinstance(own, dict):
        # The order of a dictionary is the order in which attributes were set.
        yield from sorted(own.items())
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            mangled = f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") else name
            if not mangled.startswith("__") and hasattr(value, mangled):
                yield name, getattr(value, mangled)
