"""The order of a program's threads, which does not depend on how they are scheduled."""

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any, TypeAlias, TypeVar

from traces.recording.instrument import instrumented

_T = TypeVar("_T")

ThreadNumber: TypeAlias = tuple[int, ...] | tuple[str]
"""Place of a thread among the others.

The number of the thread that started it, and how many that one had started before it; with roles,
its role alone. Threads that are not numbered have an empty one.
"""

RoleOf: TypeAlias = Callable[[threading.Thread], str]


class ThreadOrder:
    """Numbers threads by the thread that starts them, and in its order of starting them.

    The order in which two threads start threads of their own is no part of it: that depends on how
    they are scheduled. With ``role_of`` threads of one role share their number: an old thread may
    live on and do the work of the one that replaced it.
    """

    def __init__(self, role_of: RoleOf | None = None) -> None:
        self._role_of = role_of
        self._numbers: weakref.WeakKeyDictionary[threading.Thread, ThreadNumber]
        self._numbers = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._has_started = False
        self._started: Counter[ThreadNumber] = Counter()

    @contextmanager
    def numbered(self) -> Iterator[None]:
        """Number the threads that start in the block."""
        start = threading.Thread.start
        assert isinstance(start, FunctionType)
        with instrumented({start: self._on_start}):
            yield

    def current(self) -> ThreadNumber:
        """Return the number of the running thread."""
        if not self._has_started:
            return ()
        return self._numbers.get(threading.current_thread(), ())

    def _on_start(
        self, original: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> object:
        with self._lock:
            self._numbers[args[0]] = self._next_number(args[0])
            self._has_started = True
        return original(*args, **kwargs)

    def _next_number(self, thread: threading.Thread) -> ThreadNumber:
        if self._role_of is not None:
            return (self._role_of(thread),)
        starter = self.current()
        number = self._started[starter]
        self._started[starter] += 1
        return (*starter, number)


def by_thread(items: Sequence[_T], threads: Sequence[ThreadNumber]) -> tuple[_T, ...]:
    """Return items thread by thread, those of one thread in their order."""
    if len(set(threads)) < 2:
        return tuple(items)
    order = sorted(range(len(items)), key=threads.__getitem__)
    return tuple(items[number] for number in order)
