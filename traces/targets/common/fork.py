"""Runs of a function in a forked copy of this process."""

import os
import pickle
import signal
from collections.abc import Callable
from typing import TypeVar

from traces.targets.common.errors import ForkError

_Found = TypeVar("_Found")


def run_in_fork(work: Callable[[], _Found]) -> _Found:
    """Return what ``work`` returns, or raise what it raises; nothing it changes remains.

    Releases keep process groups, server arguments and page-locked memory in globals, and the
    simulated device keeps every access. The copy begins with everything imported and no scenario
    run, so no scenario sees traces of another one, and all of its memory goes with it.

    Raises:
        ForkError: the copy died, or its result cannot be pickled.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _run_and_exit(work, write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as stream:
        sent = stream.read()
    _, status = os.waitpid(child, 0)
    if not sent:
        raise ForkError(f"copy: must answer; expected a result, got {_ending(status)}")
    is_result, value = pickle.loads(sent)
    if not is_result:
        raise value
    found: _Found = value
    return found


def _run_and_exit(work: Callable[[], object], write_end: int) -> None:
    try:
        answer = (True, work())
    except BaseException as error:  # noqa: BLE001 - raised in the other process
        answer = (False, error)
    try:
        with os.fdopen(write_end, "wb") as stream:
            stream.write(_pickled(answer))
    finally:
        # Exit handlers and buffered output belong to the parent; running them twice would be wrong.
        os._exit(0)


def _pickled(answer: tuple[bool, object]) -> bytes:
    try:
        sent = pickle.dumps(answer)
        pickle.loads(sent)
    except Exception as error:  # noqa: BLE001 - whatever pickling raises
        got = f"{type(answer[1]).__name__}: {answer[1]} ({error})"
        return pickle.dumps((False, ForkError(f"copy: must be sent; expected a value, got {got}")))
    return sent


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit code {os.WEXITSTATUS(status)}"
