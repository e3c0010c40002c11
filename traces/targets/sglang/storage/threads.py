"""Threads of a controller's storage: when they work, and waiting until each waits for work itself.

What a thread does is recorded in between what the script does. Where a script pauses the threads,
they start on what they are given only while the script waits for them, so that the order of records
is the same every time.
"""

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from traces.targets.sglang.errors import StageError

# Far more than any operation takes; the end of a thread is noticed at once.
_TIMEOUT_S = 20.0
# Threads of a release look once a second whether they are to stop, and a reset waits for them.
_LOOK_S = 0.02
# One that waits longer has something to do when the time is over: never, as far as a script goes.
_LOOKING_MAX_S = 5.0
# What a thread that is to stop needs for it, at most, several times over.
_STOP_S = 100 * _LOOK_S
# The end of a thread wakes nobody.
_ALIVE_CHECK_S = 0.002
_MAY_START = threading.Event()
_MAY_START.set()


class _QueueThreads:
    """The threads that take from queues, where they wait, and how many items were taken.

    Both change while the queue is locked, so that an item is never on its way unseen.
    """

    def __init__(self) -> None:
        self.queues: dict[int, queue.Queue[Any]] = {}
        self.takers: dict[int, threading.Thread] = {}
        self.taken_num = 0
        self.held: set[int] = set()
        self.was_entered = threading.Event()

    def enter(self, waiting: "queue.Queue[Any]") -> None:
        self.queues[threading.get_ident()] = waiting
        self.was_entered.set()

    def leave(self) -> None:
        self.queues.pop(threading.get_ident(), None)

    def waits(self, thread: threading.Thread) -> bool:
        """Return whether a thread waits at a queue that is empty."""
        waiting = self.queues.get(thread.ident or 0)
        if waiting is None:
            return False
        with waiting.mutex:
            # `qsize` would lock the queue again.
            return not waiting._qsize() and self.queues.get(thread.ident or 0) is waiting  # noqa: SLF001


_QUEUE_THREADS = _QueueThreads()


@contextmanager
def watched_queues() -> Iterator[None]:
    """Make every ``get`` of a queue known to :class:`StorageThreads` while the block runs."""
    with patch.object(queue.Queue, "get", _get):
        yield


def _get(
    waiting: "queue.Queue[Any]",
    block: bool = True,  # noqa: FBT001, FBT002 - the signature of the standard library
    timeout: float | None = None,
) -> Any:  # noqa: ANN401
    """Get an item of a queue as always, but look again soon where the caller would later.

    What a thread got it starts on when it may.
    """
    patience = timeout
    if timeout is not None and timeout <= _LOOKING_MAX_S:
        patience = min(timeout, _LOOK_S)
    _QUEUE_THREADS.takers[threading.get_ident()] = threading.current_thread()
    with waiting.not_empty:
        try:
            is_there = waiting._qsize() or (block and _wait_for_item(waiting, patience))  # noqa: SLF001
        finally:
            _QUEUE_THREADS.leave()
        if not is_there:
            raise queue.Empty
        _QUEUE_THREADS.taken_num += 1
        item = waiting._get()  # noqa: SLF001
        waiting.not_full.notify()
    wait_for_start()
    return item


def _wait_for_item(waiting: "queue.Queue[Any]", patience: float | None) -> bool:
    _QUEUE_THREADS.enter(waiting)
    return waiting.not_empty.wait_for(waiting._qsize, patience) > 0  # noqa: SLF001


@contextmanager
def storage_paused() -> Iterator[None]:
    """Let threads start on what they are given only where the block waits for them."""
    _MAY_START.clear()
    try:
        yield
    finally:
        _MAY_START.set()


@contextmanager
def storage_working() -> Iterator[None]:
    """Let threads start on what they are given while the block runs."""
    was_paused = not _MAY_START.is_set()
    _MAY_START.set()
    try:
        yield
    finally:
        if was_paused:
            _MAY_START.clear()


def wait_for_start() -> None:
    """Block a thread that was given something until it may start on it; never the script itself."""
    if threading.current_thread() is threading.main_thread():
        return
    _QUEUE_THREADS.held.add(threading.get_ident())
    _MAY_START.wait(_TIMEOUT_S)
    _QUEUE_THREADS.held.discard(threading.get_ident())


class StorageThreads:
    """The threads that are attributes of a controller.

    For ``errors`` see :func:`capture_thread_errors`.
    """

    def __init__(self, controller: Any, errors: Mapping[threading.Thread, str]) -> None:  # noqa: ANN401
        self._controller = controller
        self._errors = errors

    def settle(self, what: str) -> None:
        """Wait until every thread waits at an empty queue: no result of ``what`` is to come.

        Raises:
            StageError: a thread ended by an exception, or the time is over.
        """
        end = time.monotonic() + _TIMEOUT_S
        with storage_working():
            while True:
                _QUEUE_THREADS.was_entered.clear()
                is_quiet = self._is_quiet()
                # A thread that has ended is quiet: its error, if any, was kept before it ended.
                self._require_alive(what)
                if is_quiet:
                    return
                _QUEUE_THREADS.was_entered.wait(_ALIVE_CHECK_S)
                if time.monotonic() > end:
                    raise StageError(
                        f"{what}: must come to an end; expected it in {_TIMEOUT_S:g} s, got no end"
                    )

    def hold(self, what: str) -> None:
        """Wait until every paused thread has taken what it is given, or has nothing to take.

        Raises:
            StageError: the time is over.
        """
        end = time.monotonic() + _TIMEOUT_S
        while not self._all_wait(self._takers(), or_are_held=True):
            time.sleep(_ALIVE_CHECK_S)
            if time.monotonic() > end:
                raise StageError(
                    f"{what}: must be taken; expected it in {_TIMEOUT_S:g} s, got no end"
                )

    @contextmanager
    def working_once_joined(self) -> Iterator[None]:
        """Let threads start only when the block joins one, and has told all of them to stop.

        Whether a thread does its work before it is told that would be up to the machine. Those that
        have none have stopped by then, also the ones that a release has forgotten.
        """
        join = threading.Thread.join

        def join_working(thread: threading.Thread, timeout: float | None = None) -> None:
            end = time.monotonic() + _STOP_S
            while self._any_waits() and time.monotonic() < end:
                time.sleep(_ALIVE_CHECK_S)
            with storage_working():
                join(thread, timeout)

        with patch.object(threading.Thread, "join", join_working):
            yield

    def _any_waits(self) -> bool:
        """Return whether a thread is alive that was not given any work."""
        held = _QUEUE_THREADS.held
        return any(one.is_alive() and one.ident not in held for one in self._takers())

    def _require_alive(self, what: str) -> None:
        for name, thread in self._threads():
            if thread in self._errors:
                got = " ".join(self._errors[thread].split())
                rule = f"{what}: must be acknowledged"
                raise StageError(f"{rule}; expected {name} to go on, got {got}")

    def _is_quiet(self) -> bool:
        """Return whether all threads wait, twice without an item taken in between.

        One look sees them one by one: the first may hand on to a later one what it had.
        """
        taken_num = _QUEUE_THREADS.taken_num
        threads = self._takers()
        looks = [self._all_wait(threads) for _ in range(2)]
        return all(looks) and _QUEUE_THREADS.taken_num == taken_num

    def _takers(self) -> set[threading.Thread]:
        """Return the controller's threads and all others that take from queues.

        A release may forget a thread at a reset that goes on, and does the work of its successor.
        """
        takers = {*(one for _, one in self._threads()), *list(_QUEUE_THREADS.takers.values())}
        return takers - {threading.main_thread(), threading.current_thread()}

    @staticmethod
    def _all_wait(threads: Iterable[threading.Thread], *, or_are_held: bool = False) -> bool:
        """Return whether threads wait.

        Those that may not start on what they have taken wait, too, where that is asked for.
        """
        held = _QUEUE_THREADS.held if or_are_held else ()
        return all(
            _QUEUE_THREADS.waits(thread) or thread.ident in held
            for thread in threads
            if thread.is_alive()
        )

    def _threads(self) -> Iterator[tuple[str, threading.Thread]]:
        for name, value in list(vars(self._controller).items()):
            if isinstance(value, threading.Thread) and value.ident is not None:
                yield name, value


def thread_role(thread: threading.Thread) -> str:
    """Return the name of the function that a thread runs.

    Some releases end one of their threads late after a reset, so that it does the work of its
    successor. The class that defines the function is no part of the name: releases override it.
    """
    function = getattr(thread, "_target", None)
    return getattr(function, "__name__", type(thread).__name__)


@contextmanager
def capture_thread_errors() -> Iterator[Mapping[threading.Thread, str]]:
    """Yield a mapping that receives the exception of each thread that ends in the block."""
    errors: dict[threading.Thread, str] = {}

    def keep(end: threading.ExceptHookArgs) -> None:
        if end.thread is not None:
            errors[end.thread] = f"{end.exc_type.__name__}: {end.exc_value}"

    with patch.object(threading, "excepthook", keep):
        yield errors
