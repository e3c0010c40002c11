"""Observation of torch's copies between tensors, in every thread that starts while it is active."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from traces.recording.instrument import instrumented
from traces.recording.probes import CopyObservation

Observe = Callable[[CopyObservation], None]
StreamOf = Callable[[torch.Tensor], str]

# Position of the target (None: the result), the source, and the indices of each operation.
_OPERANDS: dict[str, tuple[int | None, int, int | None]] = {
    "copy_": (0, 1, None),
    "_to_copy": (None, 0, None),
    "clone": (None, 0, None),
    "index": (None, 0, 1),
    "index_select": (None, 0, 2),
    "gather": (None, 0, 2),
    "index_put_": (0, 2, 1),
    "index_copy_": (0, 3, 2),
    "scatter_": (0, 3, 2),
}


class _CopyMode(TorchDispatchMode):
    """A dispatch mode that passes on the copies of the thread that enters it."""

    def __init__(self, observe: Observe, stream_of: StreamOf) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._observe = observe
        self._stream_of = stream_of

    @override
    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in _OPERANDS:
            return result
        target_at, source_at, indices_at = _OPERANDS[name]
        if len(args) <= max(target_at or 0, source_at, indices_at or 0):
            return result
        target = result if target_at is None else args[target_at]
        source = args[source_at]
        if isinstance(target, torch.Tensor) and isinstance(source, torch.Tensor):
            self._observe(
                CopyObservation(
                    operation=name,
                    source=source,
                    target=target,
                    indices=_indices(args[indices_at]) if indices_at is not None else (),
                    stream=self._stream_of(target),
                )
            )
        return result


@contextmanager
def observed_copies(observe: Observe, stream_of: StreamOf) -> Iterator[None]:
    """Pass on every copy for the duration of the block.

    A dispatch mode belongs to one thread, so threads that start meanwhile enter one of their own;
    those that run already are not seen.
    """

    def start(
        original: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> object:
        with _CopyMode(observe, stream_of):
            return original(*args, **kwargs)

    bootstrap = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]  # noqa: SLF001 - run by every new thread
    assert isinstance(bootstrap, FunctionType)
    with instrumented({bootstrap: start}), _CopyMode(observe, stream_of):
        yield


def _indices(given: object) -> tuple[torch.Tensor, ...]:
    items = given if isinstance(given, list | tuple) else [given]
    return tuple(item for item in items if isinstance(item, torch.Tensor))
