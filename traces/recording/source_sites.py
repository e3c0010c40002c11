"""Source lines of records: the nearest line of the target's own code."""

import inspect
import os
import sys
import traceback
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from types import FrameType, FunctionType
from weakref import WeakKeyDictionary

from traces.recording.instrument import TRAMPOLINE_FILE
from traces.schema.model import Location

_PROJECT_ROOT = Path(__file__).resolve().parents[2]
"""Callers outside a package target belong to this project."""

RawSite = tuple[str, int]
"""File as the interpreter names it, and line."""

# Parsing a module takes a tenth of a short recording.
_class_sites: WeakKeyDictionary[type, RawSite | None] = WeakKeyDictionary()


class SourceSites:
    """Finds source lines and names their files relative to ``root``, with ``/``.

    ``package`` is the target's directory or module under ``root``; lines of ``hidden`` files, the
    recorder's own, are never returned.
    """

    def __init__(self, *, root: Path, package: str, hidden: frozenset[str]) -> None:
        self._root = root.resolve()
        # Unresolved: compared with file names as the interpreter has them.
        self._package_paths = (str(root / package) + os.sep, str(root / f"{package}.py"))
        self._hidden = hidden | {TRAMPOLINE_FILE}
        self._locations: dict[RawSite, Location] = {}
        self._known: dict[RawSite, RawSite] = {}
        self._names: dict[str, str] = {}

    def current_site(self) -> RawSite:
        """Return the innermost line of the target, or of the direct caller if it has none."""
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the interpreter's own way
        caller: RawSite | None = None
        while frame is not None:
            file = frame.f_code.co_filename
            if file not in self._hidden:
                if file.startswith(self._package_paths):
                    return self._same((file, frame.f_lineno))
                caller = caller or (file, frame.f_lineno)
            frame = frame.f_back
        assert caller is not None, "a frame calls this"
        return self._same(caller)

    def own_site(self, sites: Iterable[RawSite]) -> RawSite | None:
        """Return the first of some lines that is the target's, else the first of all."""
        known = list(sites)
        own = (site for site in known if site[0].startswith(self._package_paths))
        return next(own, known[0] if known else None)

    def failure_site(self, error: BaseException) -> RawSite | None:
        """Return the innermost line of the target that an exception went through, if any."""
        place: RawSite | None = None
        for frame, line in traceback.walk_tb(error.__traceback__):
            file = frame.f_code.co_filename
            if file.startswith(self._package_paths) and file not in self._hidden:
                place = file, line
        return place

    def definition_site(self, function: FunctionType, owner: type | None) -> RawSite | None:
        """Return the line where a function is defined; None for generated code without a class.

        The function is not instrumented; generated methods are found at their class ``owner``.
        """
        code = function.__code__
        if not code.co_filename.startswith("<"):
            return code.co_filename, code.co_firstlineno
        return None if owner is None else _class_site(owner)

    def site(self, raw: RawSite) -> Location:
        """Return a place as it is stored."""
        found = self._locations.get(raw)
        if found is None:
            file, line = raw
            if file not in self._names:
                self._names[file] = self._relative_name(file)
            found = Location(file=self._names[file], line=line)
            self._locations[raw] = found
        return found

    def _same(self, raw: RawSite) -> RawSite:
        """Return one object for equal places: a long trace has few of them."""
        return self._known.setdefault(raw, raw)

    def _relative_name(self, file: str) -> str:
        path = _resolved(file)
        for root in (self._root, _PROJECT_ROOT):
            if path.is_relative_to(root):
                return path.relative_to(root).as_posix()
        return path.as_posix()


@cache
def _resolved(file: str) -> Path:
    return Path(file).resolve()


def _class_site(owner: type) -> RawSite | None:
    """Return the line where a class is defined; it is looked for in its source once."""
    if owner not in _class_sites:
        file = inspect.getsourcefile(owner)
        _class_sites[owner] = None if file is None else (file, inspect.getsourcelines(owner)[1])
    return _class_sites[owner]
