"""Threads of a controller's storage: when they work, and waiting until each waits for work itself.

What a thread does is recorded in between what the script does. Where a script pauses the threads,
they start on what they are given only while the script waits for them, so that the order of records
is the same every time.
"""

import queue
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any
from unittest.mock import patch

from traces.targets.sglang.errors import StageError

# Far more than any operation takes; the end of a thread is noticed at once.
_TIMEOUT_S = 20.0
_POLL_INTERVAL_S = 0.0005
_GET = queue.Queue.get.__code__
# A thread that has just been given work may not have taken it when it is looked at first.
_LOOKS = 2
_MAY_START = threading.Event()
_MAY_START.set()


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
    if threading.current_thread() is not threading.main_thread():
        _MAY_START.wait(_TIMEOUT_S)


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
        quiet = 0
        with storage_working():
            while quiet < _LOOKS:
                self._require_alive(what)
                quiet = quiet + 1 if self._is_quiet() else 0
                if time.monotonic() > end:
                    raise StageError(
                        f"{what}: must come to an end; expected it in {_TIMEOUT_S:g} s, got no end"
                    )
                time.sleep(_POLL_INTERVAL_S)

    def _require_alive(self, what: str) -> None:
        for name, thread in self._threads():
            if thread in self._errors:
                got = " ".join(self._errors[thread].split())
                rule = f"{what}: must be acknowledged"
                raise StageError(f"{rule}; expected {name} to go on, got {got}")

    def _is_quiet(self) -> bool:
        frames = sys._current_frames()  # noqa: SLF001 - the interpreter's own way
        alive = [thread for _, thread in self._threads() if thread.is_alive()]
        return all(_is_waiting(frames.get(thread.ident or 0)) for thread in alive)

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


def _is_waiting(frame: FrameType | None) -> bool:
    """Return whether a thread waits in ``get`` of a queue that is empty.

    A wait for anything else, such as the result of another thread's work, has no ``get`` directly
    below the waits of ``threading``.
    """
    while frame is not None and frame.f_code.co_filename == threading.__file__:
        frame = frame.f_back
    if frame is None or frame.f_code is not _GET:
        return False
    waited: queue.Queue[object] = frame.f_locals["self"]
    return waited.empty()
