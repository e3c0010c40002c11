"""Logging of every call of a package's own functions, or of the lines of one, in all threads.

The interpreter's profile and trace functions are used: nothing of the target is changed, and an
ordinary recording can go on inside the block.
"""

import dis
import inspect
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

from traces.divergence.formatter import ValueFormatter
from traces.divergence.logs import (
    CallLog,
    CallNode,
    CallsRequest,
    Focus,
    LineLog,
    LineStop,
    LogRequest,
    ValueText,
)
from traces.recording import call_recorder
from traces.recording.frame_hooks import profile_frames, trace_frames
from traces.recording.probes import CallProbe, EventProbe, Target

STOPS_MAX = 20_000
RAISED: ValueText = "raised"
"""The result of a call that an exception left; it is no JSON, so no returned value is like it."""

_RETURNS = {dis.opmap[name] for name in ("RETURN_VALUE", "RETURN_CONST") if name in dis.opmap}
_GENERATED_FILE = "<string>"
_UNLOGGED_FLAGS = (
    inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
    | inspect.CO_ITERABLE_COROUTINE
)
# Comprehensions have a frame of their own before Python 3.12 and none after.
_INLINE_NAMES = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<lambda>", "<module>")
# A function that reads its callers' frames gets paths and lines: they are no behaviour.
_FRAME_READERS = frozenset({"_getframe", "currentframe", "extract_stack"})
_RECORDER_GUARD = call_recorder.CallRecorder._guarded.__code__  # noqa: SLF001 - the recorder's own reads


@contextmanager
def log_calls(target: Target, *, focus: Focus | None = None) -> Iterator[CallLog]:
    """Log every call of the target's own functions while the block runs.

    Calls of functions in ``focus``, and all calls within these, are logged with their values; all
    calls are when it is None.

    So are calls of recorded functions outside the package, those of a simulated device. Generators,
    lambdas and comprehensions have no entry, but the functions they call have one. A function that
    reads the frames of its callers has none, and its calls have none.
    """
    watched = frozenset(
        probe.function.__code__
        for probe in target.probes()
        if isinstance(probe, CallProbe | EventProbe)
    )
    log = CallLog(threads=[], callables=frozenset(), executed={})
    tracer = _CallTracer(target, log, watched=watched, focus=focus)
    try:
        with profile_frames(tracer):
            yield log
    finally:
        log.callables = frozenset(tracer.formatter.callables)
        log.executed = tracer.executed_functions()


@contextmanager
def log_lines(target: Target, *, function: str, number: int) -> Iterator[LineLog]:
    """Log every line of one call, named as :class:`CallNode` does, while the block runs."""
    log = LineLog(stops=[])
    tracer = _LineTracer(target, log, function=function, number=number)
    with trace_frames(tracer):
        yield log


def log_run(target: Target, request: LogRequest, *, run: Callable[[], object]) -> CallLog | LineLog:
    """Run something and return the log that is asked for."""
    if isinstance(request, CallsRequest):
        with log_calls(target, focus=request.focus) as calls:
            run()
        return calls
    with log_lines(target, function=request.function, number=request.number) as lines:
        run()
    return lines


class _PackageFunctions:
    """The functions of a package: recognises frames that are calls of them, and numbers them."""

    def __init__(self, target: Target, watched: frozenset[CodeType] = frozenset()) -> None:
        self._watched = watched
        self._root = str(target.root) + os.sep
        self._package = target.package
        self._package_root = str(target.root / target.package) + os.sep
        self._names: dict[CodeType, str | None] = {}
        self._counts: Counter[str] = Counter()

    def name(self, frame: FrameType) -> str | None:
        """Return the function of a frame that begins, None when it is not logged."""
        code = frame.f_code
        if code.co_filename == _GENERATED_FILE:
            return self._generated(frame)
        if code not in self._names:
            is_named = not code.co_flags & _UNLOGGED_FLAGS and code.co_name not in _INLINE_NAMES
            is_own = is_named and code.co_filename.startswith(self._package_root)
            self._names[code] = code.co_qualname if is_own or code in self._watched else None
        name = self._names[code]
        if name is not None and code in self._watched:
            name = _wrapped_name(frame) or name
        return None if name is None or _is_read_by_recorder(frame) else name

    def next_number(self, function: str) -> int:
        """Return how many calls of a function there were, and count one more."""
        self._counts[function] += 1
        return self._counts[function] - 1

    def file(self, frame: FrameType) -> str:
        """Return the file of a frame's function, relative to the root; empty for a foreign one.

        A generated constructor belongs to the file of its class.
        """
        if frame.f_code.co_filename != _GENERATED_FILE:
            return self._relative(frame.f_code.co_filename)
        module = sys.modules.get(_made_class(frame).__module__)
        return self._relative(getattr(module, "__file__", None) or "")

    def is_within(self, code: CodeType, focus: Focus) -> bool:
        """Return whether a function begins on some lines."""
        file = self._relative(code.co_filename)
        spans = next((spans for name, spans in focus if name == file), ())
        return any(first <= code.co_firstlineno <= last for first, last in spans)

    def site(self, frame: FrameType) -> tuple[str, int]:
        """Return the nearest line of the package that called a frame."""
        paths = ((caller.f_code.co_filename, caller.f_lineno) for caller in _callers(frame))
        sites = ((self._relative(path), line) for path, line in paths)
        return next((site for site in sites if site[0]), ("", 0))

    def by_file(self, codes: Iterable[CodeType]) -> dict[str, dict[int, int]]:
        """Number functions, by file and first line; every imported file of the package has one."""
        paths = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        found: dict[str, dict[int, int]] = {self._relative(path): {} for path in paths if path}
        for number, code in enumerate(codes):
            lines = found.setdefault(self._relative(code.co_filename), {})
            lines.setdefault(code.co_firstlineno, number)
        return {file: lines for file, lines in found.items() if file}

    def _relative(self, path: str) -> str:
        is_own = path.startswith(self._package_root)
        return Path(path[len(self._root) :]).as_posix() if is_own else ""

    def _generated(self, frame: FrameType) -> str | None:
        """Name the constructor that a dataclass or a named tuple of the package has made."""
        code, kind = frame.f_code, _made_class(frame)
        if not kind.__module__.startswith(self._package) or _is_read_by_recorder(frame):
            return None
        if code.co_name == "__init__":
            return f"{kind.__qualname__}.__init__"
        is_tuple = code.co_name == "<lambda>" and code.co_varnames[0] == "_cls"
        return f"{kind.__qualname__}.__new__" if is_tuple else None


class _ThreadState(threading.local):
    def __init__(self) -> None:
        self.is_busy = False
        self.open: list[tuple[FrameType, CallNode]] = []
        self.roots: list[CallNode] | None = None


class _CallTracer:
    def __init__(
        self,
        target: Target,
        log: CallLog,
        *,
        watched: frozenset[CodeType],
        focus: Focus | None,
    ) -> None:
        self.formatter = ValueFormatter(target)
        self._functions = _PackageFunctions(target, watched)
        self._log = log
        self._watched = watched
        self._thread = _ThreadState()
        self._lock = threading.RLock()
        self._executed: dict[CodeType, None] = {}
        self._focus = focus
        self._in_focus: dict[CodeType, bool] = {}

    def executed_functions(self) -> dict[str, dict[int, int]]:
        """Return the functions of the package that were called; see :class:`CallLog`."""
        return self._functions.by_file(self._executed)

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            self._executed.setdefault(frame.f_code)
        thread = self._thread
        if thread.is_busy or event not in ("call", "return"):
            return
        thread.is_busy = True
        try:
            if event == "call":
                self._begin(frame)
            elif thread.open and thread.open[-1][0] is frame:
                self._end(frame, argument)
        finally:
            thread.is_busy = False

    def _begin(self, frame: FrameType) -> None:
        function = self._functions.name(frame)
        if function is None:
            return
        thread = self._thread
        with self._lock:
            file = self._functions.file(frame)
            is_changed, by_changed, has_values = self._place_in_focus(frame)
            inputs = _arguments(frame) if has_values else {}
            inputs = inputs if file else _without_integers(inputs)
            site_file, site_line = self._functions.site(frame)
            node = CallNode(
                function=function,
                file=file,
                number=self._functions.next_number(function),
                site_file=site_file,
                site_line=site_line,
                inputs={name: self.formatter.text_of(value) for name, value in inputs.items()},
                before=self._state(inputs),
                after={},
                returned="",
                is_watched=frame.f_code in self._watched,
                is_changed=is_changed,
                by_changed=by_changed,
                has_values=has_values,
                children=[],
            )
            if thread.roots is None:
                thread.roots = []
                self._log.threads.append(thread.roots)
            if not _FRAME_READERS.intersection(frame.f_code.co_names):
                siblings = thread.open[-1][1].children if thread.open else thread.roots
                siblings.append(node)
            thread.open.append((frame, node))

    def _end(self, frame: FrameType, result: object) -> None:
        _, node = self._thread.open.pop()
        if not node.has_values:
            return
        with self._lock:
            # The profile function is told None for an exception, as for a return of None.
            is_returned = frame.f_code.co_code[frame.f_lasti] in _RETURNS
            node.returned = self.formatter.text_of(result) if is_returned else RAISED
            node.after = self._state(_arguments(frame))

    def _place_in_focus(self, frame: FrameType) -> tuple[bool, bool, bool]:
        """Return whether a function in focus is called, whether one calls, and if values are kept.

        A lambda or a generator of such a function has no call of its own: its frame comes before
        that of the call that is open.
        """
        open_calls = self._thread.open
        parent, call = open_calls[-1] if open_calls else (None, None)
        is_changed = self._is_in_focus(frame)
        callers = (one for one in (frame.f_back, parent) if one is not None)
        by_changed = any(self._is_in_focus(one) for one in callers)
        is_within = call is not None and call.has_values
        return is_changed, by_changed, is_changed or by_changed or is_within

    def _is_in_focus(self, frame: FrameType) -> bool:
        code = frame.f_code
        if code not in self._in_focus:
            is_within = self._functions.is_within
            self._in_focus[code] = self._focus is None or is_within(code, self._focus)
        return self._in_focus[code]

    def _state(self, values: dict[str, Any]) -> dict[str, ValueText]:
        return {
            name: text
            for owner, value in values.items()
            for name, text in self.formatter.state(owner, value)
        }


class _LineTracer:
    def __init__(self, target: Target, log: LineLog, *, function: str, number: int) -> None:
        self._formatter = ValueFormatter(target)
        self._functions = _PackageFunctions(target)
        self._log = log
        self._function = function
        self._number = number
        self._thread = _ThreadState()

    def __call__(self, frame: FrameType, event: str, _argument: object) -> Any:  # noqa: ANN401
        thread = self._thread
        if event != "call" or thread.is_busy:
            return None
        thread.is_busy = True
        try:
            function = self._functions.name(frame)
            if function != self._function:
                return None
            return self._line if self._functions.next_number(function) == self._number else None
        finally:
            thread.is_busy = False

    def _line(self, frame: FrameType, event: str, _argument: object) -> Any:  # noqa: ANN401
        thread = self._thread
        if event in ("line", "return") and not thread.is_busy:
            thread.is_busy = True
            try:
                self._stop(frame, 0 if event == "return" else frame.f_lineno)
            finally:
                thread.is_busy = False
        return self._line

    def _stop(self, frame: FrameType, line: int) -> None:
        if len(self._log.stops) >= STOPS_MAX:
            return
        values = {name: self._formatter.text_of(value) for name, value in frame.f_locals.items()}
        for name, value in frame.f_locals.items():
            values.update(self._formatter.state(name, value))
        self._log.stops.append(LineStop(line=line, values=values))


def _made_class(frame: FrameType) -> type:
    """Return the class whose generated constructor a frame is."""
    code = frame.f_code
    first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    return first if isinstance(first, type) else type(first)


def _wrapped_name(frame: FrameType) -> str | None:
    """Return the function that a foreign decorator's wrapper closes over, if it is one.

    All functions with that decorator share the wrapper's code.
    """
    values = (frame.f_locals.get(name) for name in frame.f_code.co_freevars)
    functions = [value for value in values if isinstance(value, FunctionType)]
    return functions[0].__qualname__ if len(functions) == 1 else None


def _arguments(frame: FrameType) -> dict[str, Any]:
    code = frame.f_code
    stars = (code.co_flags & flag for flag in (inspect.CO_VARARGS, inspect.CO_VARKEYWORDS))
    number = code.co_argcount + code.co_kwonlyargcount + sum(map(bool, stars))
    found = frame.f_locals
    values = {name: found[name] for name in code.co_varnames[:number] if name in found}
    if code.co_flags & inspect.CO_VARKEYWORDS:
        keywords = values.pop(code.co_varnames[number - 1], {})
        values |= {name: value for name, value in keywords.items() if name not in values}
    return values


def _without_integers(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out integers: the functions of a simulated device get addresses."""
    return {name: value for name, value in values.items() if not isinstance(value, int)}


def _is_read_by_recorder(frame: FrameType) -> bool:
    """Return whether the recorder called it, to encode something: no call of the program."""
    return any(caller.f_code is _RECORDER_GUARD for caller in _callers(frame))


def _callers(frame: FrameType) -> Iterator[FrameType]:
    caller = frame.f_back
    while caller is not None:
        yield caller
        caller = caller.f_back
