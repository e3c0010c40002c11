"""What the functions do that the entries of a group are given: each is called and told by that.

A function that evicts is made where the stack is wired and called when a pool has no slot left,
which the script does not bring about. What it asks of the tree is recorded and not done: with
numbers as signs, because how much is missing depends on what was played before. One that maps
layers is told by all it maps: a pool without rows of its own never shows a layer that is missing.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from types import MethodType
from typing import Any
from unittest.mock import patch

CALLBACK = "callback"
"""Name under which calls of :func:`callback` are recorded."""

_EVICTS = "evict"
_MAPS = "mapper"
_MAX_LAYERS = 1 << 10
"""More than any model has, on whatever stage."""
_ANY_SIGNATURE = inspect.signature(lambda *_arguments: None)
_MORE_SLOTS_THAN_ANY_POOL = 1 << 30


def callback(pool: str, name: str, does: list[str]) -> None:
    """Stand for one function of one pool's entry; the recorder sees what it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictionLog:
    """Notes what is asked to be evicted.

    Attributes:
        asked: requests so far, as ``evict_host(+, SWA)``.
    """

    asked: list[str] = field(default_factory=list)

    def named(
        self, name: str, *, parameters: inspect.Signature = _ANY_SIGNATURE
    ) -> Callable[..., int]:
        """Return a function that evicts nothing and notes that it was asked.

        Args:
            name: of what it stands for.
            parameters: what that takes; arguments like their defaults are left out.
        """

        def asked(*arguments: object, **named: object) -> int:
            bound = parameters.bind(*arguments, **named).arguments
            texts = [
                _text(value)
                for key, value in bound.items()
                if value != parameters.parameters[key].default
            ]
            self.asked.append(f"{name}({', '.join(texts)})")
            return 0

        return asked

    @contextmanager
    def of(self, cache: object) -> Iterator[None]:
        """Note what a tree is asked instead of evicting, until the block ends."""
        with ExitStack() as replaced:
            for name in dir(type(cache)):
                if name.startswith(_EVICTS) and callable(getattr(cache, name)):
                    parameters = inspect.signature(getattr(cache, name))
                    noted = self.named(name, parameters=parameters)
                    replaced.enter_context(patch.object(cache, name, noted))
            yield


def run_callbacks(group: Any, cache: object, evictions: EvictionLog) -> None:  # noqa: ANN401
    """Call the functions of a group's entries; what they raise is what they do."""
    with evictions.of(cache):
        for entry in getattr(group, "entries", ()):
            pool = str(entry.name.value).upper()
            for name, value in sorted(vars(entry).items()):
                if _EVICTS in name:
                    _report_callback(
                        value,
                        pool,
                        name,
                        _eviction_requests(_currently_patched(value, cache), evictions),
                    )
                elif name.endswith(_MAPS) and callable(value):
                    _report_callback(value, pool, name, _mapped_layers(value))


def _report_callback(function: object, *told: object) -> None:
    """Call :func:`callback` as if from the line on which a function begins: it is its place."""
    code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
    if code is None:
        callback(*told)  # type: ignore[arg-type]
        return
    line = "\n" * (code.co_firstlineno - 1) + "callback(*told)"
    eval(compile(line, code.co_filename, "eval"), {"callback": callback, "told": told})


def _currently_patched(value: object, cache: object) -> object:
    """Return a tree's method as it is now, where one was handed over before it was noted."""
    if isinstance(value, MethodType) and value.__self__ is cache:
        return getattr(cache, value.__name__)
    return value


def _eviction_requests(value: Any, evictions: EvictionLog) -> list[str]:  # noqa: ANN401 - a callback or None
    evictions.asked.clear()
    if callable(value):
        try:
            value(_MORE_SLOTS_THAN_ANY_POOL)
        except Exception as error:  # noqa: BLE001 - recorded as what it asks for
            evictions.asked.append(f"raises {type(error).__name__}")
    return list(evictions.asked)


def _mapped_layers(mapper: Callable[[int], object]) -> list[str]:
    try:
        pairs = [(layer, mapper(layer)) for layer in range(_MAX_LAYERS)]
    except Exception as error:  # noqa: BLE001 - recorded as what it does
        return [f"raises {type(error).__name__}"]
    return [f"{layer} -> {index}" for layer, index in pairs if index is not None]


def _text(value: object) -> str:
    """Return a value as it is, numbers as signs."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return str(value)
    if isinstance(value, tuple):
        return ", ".join(map(_text, value))
    if isinstance(value, int | float):
        return "+" if value > 0 else "0"
    if is_dataclass(value) and not isinstance(value, type):
        told = ((one.name, _text(getattr(value, one.name))) for one in fields(value))
        return ", ".join(f"{name}={text}" for name, text in told if text not in ("0", "None"))
    return type(value).__name__
