"""Record of what a run reaches: functions of a package, files that it opens, variables it reads.

A change that touches nothing of this cannot change the run. Whatever could escape the record (a
second interpreter, a thread that Python does not know) is named, and such a run is always repeated.

The module imports the standard library alone: it watches while a worker imports its target.
"""

import _thread
import inspect
import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tools.workers.protocol import Reach
from tools.workers.reach_marks import FunctionMarks

_IMPORT_SYSTEM = "<frozen importlib"
# Its reads of source give lines for people, which are never compared.
_SITES = str(Path("traces", "recording", "source_sites.py"))
# Its reads of source give facts, which are recorded instead.
_FACTS = str(Path("traces", "targets", "common", "source_reads.py"))
# The lines of a traceback that it logs are for people as well.
_LOGGED_ERROR = (str(Path("logging", "__init__.py")), "formatException")
_FACT_READ, _CODE_READ = "goldentrace.fact_read", "goldentrace.code_read"
_NAMES_READ = "goldentrace.names_read"
_PROCESS_EVENTS = frozenset({"os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system"})


class ReachRecorder:
    """A record of what one process reaches of the package below a root directory.

    Only what happens inside :meth:`watching` is recorded. A forked copy begins with an empty record
    of its own. The environment and the audit hook stay watched for the rest of the process.

    Args:
        root: directory that holds the package.
        package: its name; it must not be imported yet.
    """

    def __init__(self, root: Path, *, package: str) -> None:
        self._roots = tuple(dict.fromkeys(f"{place}{os.sep}" for place in (root, root.resolve())))
        self._package = f"{package}/"
        self._early = [name for name in sys.modules if name.partition(".")[0] == package]
        self._marks = FunctionMarks(root / package)
        self._codes: dict[int, CodeType] = {}
        self._opened: set[str] = set()
        self._variables: set[str] = set()
        self._unsure: set[str] = set()
        self._facts: dict[str, dict[str, str]] = {}
        self._names: set[str] = set()
        self._is_on = False
        sys.addaudithook(self._on_audit_event)
        self._watch_environment()
        self._watch_threads()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record what the block reaches, in this thread and in threads that it starts."""
        self._codes = {}
        self._opened, self._variables, self._unsure = set(), set(), set()
        self._facts, self._names = {}, set()
        self._marks.clear()
        if self._early:
            self._unsure.add(f"modules that were imported before ({self._early[0]})")
        self._is_on = True
        try:
            yield
        finally:
            self._is_on = False

    def found(self) -> Reach:
        """Return what the last watched block reached, and forget it."""
        functions: dict[str, set[str]] = {}
        codes, self._codes = self._codes, {}
        read = ((code.co_filename, _outermost_function(code)) for code in codes.values())
        for path, name in (*self._marks.found(), *read):
            file = self._relative(path)
            if file is not None:
                functions.setdefault(file, set()).add(name)
        return Reach(
            functions={file: tuple(sorted(names)) for file, names in sorted(functions.items())},
            opened=tuple(sorted(self._opened)),
            variables=tuple(sorted(self._variables)),
            unsure=tuple(sorted(self._unsure)),
            facts=self._facts,
            names=tuple(sorted(self._names)),
        )

    def _relative(self, path: str) -> str | None:
        for root in self._roots:
            if path.startswith(root):
                return path[len(root) :].replace(os.sep, "/")
        return None

    def _on_audit_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_on:
            return
        if event == "open":
            self._note_open(arguments[0])
        elif event == "exec":
            self._note_module(arguments[0])
        elif event == _FACT_READ:
            fact, path, value = arguments
            file = self._relative(path)
            if file is not None:
                self._facts.setdefault(fact, {})[file] = value
        elif event == _CODE_READ:
            self._codes[id(arguments[0])] = arguments[0]
        elif event == _NAMES_READ:
            self._names.update(arguments)
        elif event in _PROCESS_EVENTS:
            self._unsure.add(f"another process ({event})")
        elif event == "subprocess.Popen" and _is_python(arguments[0], arguments[1]):
            self._unsure.add("another process (python)")

    def _note_open(self, path: object) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        file = self._relative(os.fsdecode(path))
        if file is not None and not _is_harmless_reader(sys._getframe(2)):  # noqa: SLF001
            self._opened.add(file)

    def _note_module(self, code: object) -> None:
        """Note the code of a module that was not imported as usual: its functions have no marks."""
        if isinstance(code, CodeType) and code.co_name == "<module>":
            file = self._relative(code.co_filename)
            is_ours = file is not None and file.startswith(self._package)
            if is_ours and not self._marks.has(code.co_filename):
                self._unsure.add(f"a module that was not imported as usual ({file})")

    def _watch_threads(self) -> None:
        """Note every thread that is started without :mod:`threading`."""
        start = _thread.start_new_thread

        def start_and_note(*arguments: Any) -> int:  # noqa: ANN401 - as in _thread
            if self._is_on:
                self._unsure.add("a thread that was not started by threading")
            return start(*arguments)

        _thread.start_new_thread = start_and_note

    def _watch_environment(self) -> None:
        """Note every variable that is read by name; a copy of all of them names none."""
        owner = type(os.environ)
        read, iterate = owner.__getitem__, owner.__iter__
        # A copy reads every name in the order in which it was listed.
        listed: deque[Any] = deque()
        copied: list[str] = []

        def iterate_and_note(environment: Any) -> Iterator[Any]:  # noqa: ANN401 - text or bytes
            names = list(iterate(environment))
            listed.clear()
            listed.extend(names)
            yield from names

        def read_and_note(environment: Any, name: Any) -> Any:  # noqa: ANN401 - text or bytes
            if listed and listed[0] == name:
                copied.append(os.fsdecode(listed.popleft()))
            elif self._is_on:
                self._variables.update(copied if listed else ())
                self._variables.add(os.fsdecode(name))
                listed.clear()
            if not listed:
                copied.clear()
            return read(environment, name)

        owner.__iter__ = iterate_and_note  # type: ignore[method-assign]
        owner.__getitem__ = read_and_note  # type: ignore[method-assign]


def _outermost_function(code: CodeType) -> str:
    """Return the function of a module or class that a code object belongs to; empty for none."""
    if not code.co_flags & inspect.CO_OPTIMIZED:
        return ""
    return code.co_qualname.partition(".<locals>")[0]


def _is_harmless_reader(frame: FrameType | None) -> bool:
    """Return whether a file is opened to import it, for a fact, or to show lines to people."""
    is_first = True
    while frame is not None:
        file = frame.f_code.co_filename
        if is_first and file.startswith(_IMPORT_SYSTEM):
            return True
        if file.endswith((_SITES, _FACTS)):
            return True
        if file.endswith(_LOGGED_ERROR[0]) and frame.f_code.co_name == _LOGGED_ERROR[1]:
            return True
        is_first = False
        frame = frame.f_back
    return False


def _is_python(program: object, arguments: object) -> bool:
    words = [program, *arguments] if isinstance(arguments, list | tuple) else [program, arguments]
    names = [Path(os.fsdecode(w)).name for w in words if isinstance(w, str | bytes)]
    return any(name.startswith(("python", "goldentrace")) for name in names)
