"""Profile and trace functions of the interpreter, in all threads, while a block runs."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol


class FrameHook(Protocol):
    """What the interpreter calls; see :func:`sys.settrace` for what it returns."""

    def __call__(self, frame: FrameType, event: str, argument: Any, /) -> Any:  # noqa: ANN401
        """Look at a frame."""


@contextmanager
def profile_frames(hook: FrameHook) -> Iterator[None]:
    """Have a hook told of every call and return; what was there before comes back."""
    here, elsewhere = sys.getprofile(), threading.getprofile()
    threading.setprofile(hook)
    sys.setprofile(hook)
    try:
        yield
    finally:
        sys.setprofile(here)
        threading.setprofile(elsewhere)


@contextmanager
def trace_frames(hook: FrameHook) -> Iterator[None]:
    """Have a hook told of every call, and of lines as it asks; what was there before comes back."""
    here, elsewhere = sys.gettrace(), threading.gettrace()
    threading.settrace(hook)
    sys.settrace(hook)
    try:
        yield
    finally:
        sys.settrace(here)
        threading.settrace(elsewhere)
