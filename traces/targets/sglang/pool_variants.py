"""Variants of device pools: other layouts of rows, and pools as a release makes them elsewhere.

A release makes some pools on other platforms only. What it asks there is answered as on that
platform while the pools are made; no kernel of the platform runs.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib.machinery import ModuleSpec
from os import environ
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from traces.targets.common.source_reads import read_fact, source_files
from traces.targets.sglang.discovery import all_names_of, installed_release
from traces.targets.sglang.source_facts import pool_bases

_ASCEND_PACKAGE = "torch_npu"
_PACKAGE = "sglang.srt"
_ASCEND_FOLDER = Path("hardware_backend") / "npu"
# Slots of the coarser rows, which have pages of their own there: more than a page.
_ASCEND_SLOTS = {"c128_size": 64}
_GATE = "sglang.srt.layers.attention.dsv4.unified_kv_gate"
_GATE_QUESTIONS = ("is_hip", "is_gfx95_supported")
_IS_ROCM = "_is_hip"
_ONE_BUFFER = {"SGLANG_HACK_FLASHMLA_BACKEND": "unified_kv_triton"}
_ONE_BUFFER_FP8 = {**_ONE_BUFFER, "SGLANG_DSV4_UNIFIED_KV_FP8": "1"}
_FP4_INDEX = {"enable_deepseek_v4_fp4_indexer": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolVariant:
    """Differences in the pools of a target.

    Attributes:
        arguments: further ones of the constructor of the pool that attention reads from.
        flags: further server arguments.
        pool_class, allocator_class: classes in place of those of the family.
        platform: what is answered otherwise while pools are made: ``""``, ``rocm`` or ``ascend``.
        environment: variables of the environment.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    flags: Mapping[str, Any] = field(default_factory=dict)
    pool_class: type | None = None
    allocator_class: type | None = None
    platform: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    def surroundings(self) -> AbstractContextManager[None]:
        """Return the surroundings in which the pools are made."""
        if not self.platform:
            return nullcontext()
        return _rocm(self.environment) if self.platform == "rocm" else _ascend()


PLAIN = PoolVariant()


@cache
def pool_variants(pool_class: str) -> Mapping[str, PoolVariant]:
    """Return the variants of a class of pools, by name.

    An argument that is one of an enumeration takes each of its members. Classes for other platforms
    are those that inherit from the pool's.
    """
    cls = installed_release().find(*all_names_of(pool_class))
    if cls is None:
        return {}
    found = dict(_members(cls))
    module = sys.modules[cls.__module__]
    if hasattr(module, _IS_ROCM) and _has_gate():
        found["rocm.fp4_index"] = PoolVariant(platform="rocm", flags=_FP4_INDEX)
        found["rocm.one_buffer"] = PoolVariant(platform="rocm", environment=_ONE_BUFFER)
        found["rocm.one_buffer_fp8"] = PoolVariant(platform="rocm", environment=_ONE_BUFFER_FP8)
    return {**found, **dict(_of_ascend(cls))}


def _members(cls: type) -> Iterator[tuple[str, PoolVariant]]:
    """Yield the other members of an enumeration of which an argument has one by default."""
    for name, parameter in inspect.signature(cls).parameters.items():
        if isinstance(parameter.default, Enum):
            for member in type(parameter.default):
                if member is not parameter.default:
                    variant = PoolVariant(arguments={name: member})
                    yield f"{name}={member.value}", variant


def _has_gate() -> bool:
    try:
        importlib.import_module(_GATE)
    except ImportError:
        return False
    return True


def _of_ascend(cls: type) -> Iterator[tuple[str, PoolVariant]]:
    """Yield the pool that inherits from a class on Ascend, with the allocator beside it."""
    pool = _inheriting(cls, lambda _: True)
    if pool is None:
        return
    allocators = (one for one in installed_release().allocators() if one not in pool.__mro__)
    package = pool.__module__.rpartition(".")[0]
    beside = (_inheriting(one, lambda name: name.startswith(package)) for one in allocators)
    allocator = next((one for one in beside if one is not None), None)
    yield (
        "ascend",
        PoolVariant(
            platform="ascend",
            arguments=_ASCEND_SLOTS,
            pool_class=pool,
            allocator_class=allocator,
        ),
    )


def _inheriting(cls: type, is_place: Callable[[str], bool]) -> type | None:
    """Return a class for Ascend that inherits from another, in one of some modules."""
    for module, file in _ascend_files():
        for name, bases in read_fact(pool_bases, file) if is_place(module) else ():
            if cls.__name__ in bases:
                with _ascend(), suppress(Exception):
                    found: type = getattr(importlib.import_module(module), name)
                    return found
    return None


def _ascend_files() -> Iterator[tuple[str, Path]]:
    """Yield the modules of a release for Ascend, with their files."""
    for place in importlib.import_module(_PACKAGE).__path__:
        root = Path(place) / _ASCEND_FOLDER
        for file in source_files(root):
            parts = file.relative_to(root).with_suffix("").parts
            yield ".".join((_PACKAGE, *_ASCEND_FOLDER.parts, *parts)), file


@contextmanager
def _ascend() -> Iterator[None]:
    """Let modules import the extension for Ascend, which has nothing in it here."""
    if _ASCEND_PACKAGE in sys.modules:
        yield
        return
    package = ModuleType(_ASCEND_PACKAGE)
    package.__spec__ = ModuleSpec(_ASCEND_PACKAGE, None)
    sys.modules[_ASCEND_PACKAGE] = package
    try:
        yield
    finally:
        del sys.modules[_ASCEND_PACKAGE]


@contextmanager
def _rocm(environment: Mapping[str, str]) -> Iterator[None]:
    """Answer as on ROCm where pools of several layouts are chosen from."""
    gate = importlib.import_module(_GATE)
    remembered = [one for one in vars(gate).values() if hasattr(one, "cache_clear")]
    with ExitStack() as replaced:
        for cls in installed_release().device_pools():
            module = sys.modules[cls.__module__]
            if hasattr(module, _IS_ROCM):
                replaced.enter_context(patch.object(module, _IS_ROCM, new=True))
        for name in _GATE_QUESTIONS:
            replaced.enter_context(patch.object(gate, name, lambda: True))
        replaced.enter_context(patch.dict(environ, environment))
        for one in remembered:
            one.cache_clear()
        yield
    for one in remembered:
        one.cache_clear()
