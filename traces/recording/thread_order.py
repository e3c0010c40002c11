"""The order of a program's threads, which does not depend on how they are scheduled."""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any, TypeVar

from traces.recording.instrument import instrumented

_T = TypeVar("_T")


class ThreadOrder:
    """Numbers threads in the order in which they are started; those that run already have 0."""

    def __init__(self) -> None:
        self._numbers: weakref.WeakKeyDictionary[threading.Thread, int]
        self._numbers = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._started = 0

    @contextmanager
    def numbered(self) -> Iterator[None]:
        """Number the threads that start in the block."""
        start = threading.Thread.start
        assert isinstance(start, FunctionType)
        with instrumented({start: self._on_start}):
            yield

    def current(self) -> int:
        """Return the number of the running thread."""
        return self._numbers.get(threading.current_thread(), 0)

    def _on_start(
        self, original: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> object:
        with self._lock:
            self._started += 1
            self._numbers[args[0]] = self._started
        return original(*args, **kwargs)


def by_thread(items: Sequence[_T], threads: Sequence[int]) -> tuple[_T, ...]:
    """Return items thread by thread, those of one thread in their order."""
    order = sorted(range(len(items)), key=threads.__getitem__)
    return tuple(items[number] for number in order)
