"""Profile and trace functions of the interpreter, in all threads, while a block runs."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeAlias

FrameHook: TypeAlias = Callable[[FrameType, str, Any], Any]
"""A profile or trace function; see :func:`sys.settrace` for its parameters and result."""


@contextmanager
def profile_frames(hook: FrameHook) -> Iterator[None]:
    """Call a hook for every call and return; afterwards the previous hooks are back."""
    # sys.setprofile reaches the calling thread only, threading.setprofile only threads that start
    # later: threads that run already are not watched.
    here, elsewhere = sys.getprofile(), threading.getprofile()
    threading.setprofile(hook)
    sys.setprofile(hook)
    try:
        yield
    finally:
        sys.setprofile(here)
        threading.setprofile(elsewhere)


@contextmanager
def unprofiled() -> Iterator[None]:
    """Let the hook of :func:`profile_frames` miss what the calling thread does in the block.

    Another profiler goes on: that of kept runs must see everything that is executed.
    """
    hook = sys.getprofile()
    if hook is None or hook is not threading.getprofile():
        yield
        return
    sys.setprofile(None)
    try:
        yield
    finally:
        sys.setprofile(hook)


@contextmanager
def trace_frames(hook: FrameHook) -> Iterator[None]:
    """Call a hook for every call, and for lines on request; the previous hooks come back."""
    # As above; a debugger or coverage that was active gets no events meanwhile.
    here, elsewhere = sys.gettrace(), threading.gettrace()
    threading.settrace(hook)
    sys.settrace(hook)
    try:
        yield
    finally:
        sys.settrace(here)
        threading.settrace(elsewhere)
