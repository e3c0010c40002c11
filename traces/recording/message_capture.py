"""Capture of the warnings and log records of one package.

Warnings are captured where they are issued, before filters and the once-only registry. Filters and
handlers then work as without a recorder.
"""

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from types import FrameType, ModuleType
from typing import Any, Literal, TypeAlias

from traces.errors import RecorderError
from traces.recording.instrument import TRAMPOLINE_FILE

_settled: dict[ModuleType, tuple[str, ...]] = {}
"""Modules that are imported for good, each with its names of ``warnings.warn`` if it has any."""
_newest_settled: dict[str, str] = {}
"""The name of the module that was imported last when those of a package were settled."""

MessageSink: TypeAlias = Callable[[Literal["warning", "error"], str], None]


@contextmanager
def capture_messages(package: str, sink: MessageSink, *, hidden: frozenset[str]) -> Iterator[None]:
    """Pass on every warning and log record of ``package`` for the duration of the block.

    ``sink`` is called in the thread that issued the message. A ``stacklevel`` does not count frames
    of the source files in ``hidden``.

    Raises:
        RecorderError: the package's logger does not let warnings through; or other code
            replaced ``warnings.warn`` during the block.
    """
    with _capture_logs(package, sink), _capture_warnings(package, sink, hidden):
        yield


def settle_modules(package: str) -> None:
    """Remember where the modules imported so far name ``warnings.warn``, before processes fork.

    Looking at every global of a large package takes a fork most of its time: each look writes a
    reference count, so the memory of all globals is copied.
    """
    for module in _modules_of(package):
        _settled[module] = _names_of(module, warnings.warn)
    _newest_settled[package] = next(reversed(sys.modules))


@contextmanager
def _capture_logs(package: str, sink: MessageSink) -> Iterator[None]:
    logger = logging.getLogger(package)
    if not logger.isEnabledFor(logging.WARNING):
        level = logging.getLevelName(logger.getEffectiveLevel())
        got = "logging.disable" if logger.manager.disable >= logging.WARNING else level
        rule = "must let warnings through"
        raise RecorderError(f"logger {package}", rule, expected="WARNING", got=got)

    def forward(record: logging.LogRecord) -> bool:
        sink("error" if record.levelno >= logging.ERROR else "warning", record.getMessage())
        return False

    # A filter is asked before the handler takes its lock; the recorder has a lock of its own.
    handler = logging.Handler(logging.WARNING)
    handler.addFilter(forward)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def _capture_warnings(package: str, sink: MessageSink, hidden: frozenset[str]) -> Iterator[None]:
    original = warnings.warn
    skipped = hidden | {TRAMPOLINE_FILE}

    def warn(
        message: Any,  # noqa: ANN401 - as in warnings
        category: type[Warning] | None = None,
        stacklevel: int = 1,
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        caller = sys._getframe(1)  # noqa: SLF001 - the interpreter's own way
        if _is_within(caller.f_globals.get("__name__", ""), package):
            sink("warning", str(message))
        level = 1 + _real_stacklevel(caller, stacklevel, skipped)
        original(message, category, level, *args, **kwargs)

    holders = _modules_with(package, original)
    for module, name in holders:
        setattr(module, name, warn)
    try:
        yield
    finally:
        replaced = [module.__name__ for module, name in holders if vars(module)[name] is not warn]
        for module, name in holders:
            setattr(module, name, original)
    if replaced:
        rule, got = "warn must stay while recording", "another, now replaced by the original"
        raise RecorderError(", ".join(replaced), rule, expected="the recorder's", got=got)


def _modules_with(package: str, function: object) -> list[tuple[ModuleType, str]]:
    """Return ``warnings`` and every module of the package that imported the function by name."""
    known = [
        (module, name)
        for module, names in _settled.items()
        if _is_within(module.__name__, package)
        for name in names
    ]
    new = [
        (module, name)
        for module in _modules_of(package)
        if module not in _settled
        for name in _names_of(module, function)
    ]
    return [(warnings, "warn"), *known, *new]


def _modules_of(package: str) -> list[ModuleType]:
    """Return the modules of a package that were imported since modules were settled, if ever."""
    newest = _newest_settled.get(package)
    newest_first = takewhile(lambda name: name != newest, reversed(sys.modules))
    return [sys.modules[name] for name in list(newest_first) if _is_within(name, package)]


def _names_of(module: ModuleType, function: object) -> tuple[str, ...]:
    return tuple(name for name, value in vars(module).items() if value is function)


def _real_stacklevel(caller: FrameType, stacklevel: int, skipped: frozenset[str]) -> int:
    """Return the level that points where ``stacklevel`` did without the recorder's frames."""
    wanted, level = stacklevel, 1
    frame: FrameType | None = caller
    while wanted > 1 and frame is not None:
        frame = frame.f_back
        level += 1
        if frame is not None and frame.f_code.co_filename not in skipped:
            wanted -= 1
    return level


def _is_within(module_name: str, package: str) -> bool:
    return module_name == package or module_name.startswith(f"{package}.")
