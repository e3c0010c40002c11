"""Calls of the callbacks that the entries of a group hold, with a record of what each one does.

A release calls an eviction callback when a pool has no free slot. Here the evictions that it
requests of the tree are recorded and not executed, numbers as signs: how many slots are missing
depends on earlier steps. Of a layer mapper all pairs are recorded: a pool without
rows of its own would never show a missing layer.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from types import MethodType
from typing import Any
from unittest.mock import patch

import torch

CALLBACK = "callback"
"""Name under which calls of :func:`callback` are recorded."""

_EVICTS = "evict"
_MAPS = "mapper"
_MAX_LAYERS = 1 << 10
"""More layers than any model has."""
_ANY_SIGNATURE = inspect.signature(lambda *_arguments: None)
_MORE_SLOTS_THAN_ANY_POOL = 1 << 30


def callback(pool: str, name: str, does: list[str]) -> None:
    """Do nothing: the recorder records the call as one callback of one pool's entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictionLog:
    """Records requests for evictions, and executes them where no tree stands behind them."""

    requests: list[str] = field(default_factory=list)  # requests so far, as ``evict_host(+, SWA)``
    # Slots that an eviction frees, with the objects of the release that free them.
    held: list[tuple[Any, torch.Tensor]] = field(default_factory=list)

    def evict(self) -> int:
        """Free all slots that are held for evictions; return how many there were."""
        held, self.held[:] = [*self.held], []
        for allocator, slots in held:
            allocator.free(slots)
        return sum(slots.numel() for _, slots in held)

    def recording_function(
        self, name: str, *, parameters: inspect.Signature = _ANY_SIGNATURE
    ) -> Callable[..., int]:
        """Return a function that evicts what is held and records its calls.

        Default arguments are not recorded.
        """

        def asked(*arguments: object, **named: object) -> int:
            bound = parameters.bind(*arguments, **named).arguments
            texts = [
                _text(value)
                for key, value in bound.items()
                if value != parameters.parameters[key].default
            ]
            self.requests.append(f"{name}({', '.join(texts)})")
            return self.evict()

        return asked

    @contextmanager
    def patched(self, cache: object) -> Iterator[None]:
        """Record a tree's evictions instead of executing them, until the block ends."""
        with ExitStack() as replaced:
            for name in dir(type(cache)):
                if name.startswith(_EVICTS) and callable(getattr(cache, name)):
                    parameters = inspect.signature(getattr(cache, name))
                    function = self.recording_function(name, parameters=parameters)
                    replaced.enter_context(patch.object(cache, name, function))
            yield


def run_callbacks(group: Any, cache: object, evictions: EvictionLog) -> None:  # noqa: ANN401
    """Call the callbacks of a group's entries; an error of one is recorded as its effect."""
    with evictions.patched(cache):
        for entry in getattr(group, "entries", ()):
            pool = str(entry.name.value).upper()
            for name, value in sorted(vars(entry).items()):
                if _EVICTS in name:
                    function = _currently_patched(value, cache)
                    _report_callback(value, pool, name, _eviction_requests(function, evictions))
                elif name.endswith(_MAPS) and callable(value):
                    _report_callback(value, pool, name, mapped_layers(value))


def _report_callback(function: object, *record: object) -> None:
    """Call :func:`callback` as if from the first line of a function, which becomes its location."""
    code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
    if code is None:
        callback(*record)  # type: ignore[arg-type]
        return
    # The recorder takes the location from the frame that calls: this one has the function's.
    line = "\n" * (code.co_firstlineno - 1) + "callback(*record)"
    eval(compile(line, code.co_filename, "eval"), {"callback": callback, "record": record})


def _currently_patched(value: object, cache: object) -> object:
    """Return a tree's patched method for one that was bound before the patch."""
    if isinstance(value, MethodType) and value.__self__ is cache:
        return getattr(cache, value.__name__)
    return value


def _eviction_requests(value: Any, evictions: EvictionLog) -> list[str]:  # noqa: ANN401 - a callback or None
    evictions.requests.clear()
    if callable(value):
        try:
            value(_MORE_SLOTS_THAN_ANY_POOL)
        except Exception as error:  # noqa: BLE001 - recorded as its effect
            evictions.requests.append(f"raises {type(error).__name__}")
    return list(evictions.requests)


def mapped_layers(mapper: Callable[[int], object], *, layers: int = _MAX_LAYERS) -> list[str]:
    """Return the layers that a mapper knows, with the index of each, below a number of layers."""
    try:
        pairs = [(layer, mapper(layer)) for layer in range(layers)]
    except Exception as error:  # noqa: BLE001 - recorded as its effect
        return [f"raises {type(error).__name__}"]
    return [f"{layer} -> {index}" for layer, index in pairs if index is not None]


def _text(value: object) -> str:
    """Return the text of a value, numbers as signs."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return str(value)
    if isinstance(value, tuple):
        return ", ".join(map(_text, value))
    if isinstance(value, int | float):
        return "+" if value > 0 else "0"
    if is_dataclass(value) and not isinstance(value, type):
        texts = ((one.name, _text(getattr(value, one.name))) for one in fields(value))
        return ", ".join(f"{name}={text}" for name, text in texts if text not in ("0", "None"))
    return type(value).__name__
