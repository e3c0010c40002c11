"""Compiled modules, kept by the content of their source.

Python keeps compiled code beside the source, by its path and time: a fork of a release, or a
revision that was just checked out, is compiled anew, in every worker, and everything is where
``PYTHONDONTWRITEBYTECODE`` is set. Code that is kept by content serves every copy of a file.

The module needs the standard library alone: it is used before a worker imports its target.
"""

import hashlib
import marshal
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.abc import PathEntryFinder
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
)
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import CodeType

from tools.kept_files import read_kept, write_kept

LIMIT_BYTES = 512 * 1024**2
"""Size above which a store is emptied; one release takes about 50 MB."""

_KEY_BYTES = 16


def keep_compiled_modules(store: Path, folders: Sequence[Path]) -> None:
    """Load the modules below some folders by the code that ``store`` keeps; add what it lacks.

    Later imports of this process are concerned. A store that cannot be read or written is passed
    over: modules are then compiled each time.
    """
    roots = [folder.absolute() for folder in folders]

    class Loader(SourceFileLoader):
        # typing.override is from Python 3.12 on.
        def get_code(self, fullname: str) -> CodeType:  # type: ignore[explicit-override]
            path = self.get_filename(fullname)
            source = self.get_data(path)
            return _code_of(store, source, path, lambda: self.source_to_code(source, path))

    details = ((ExtensionFileLoader, EXTENSION_SUFFIXES), (Loader, SOURCE_SUFFIXES))
    find = FileFinder.path_hook(*details)

    def find_below(path: str) -> PathEntryFinder:
        if not any(Path(path).absolute().is_relative_to(root) for root in roots):
            raise ImportError(f"{path}: its modules are not kept compiled")
        return find(path)

    sys.path_hooks.insert(0, find_below)
    sys.path_importer_cache.clear()


def _code_of(store: Path, source: bytes, path: str, compiled: Callable[[], CodeType]) -> CodeType:
    # The code depends on the interpreter, and on whether it leaves assertions out.
    kind = MAGIC_NUMBER + bytes([sys.flags.optimize])
    key = hashlib.blake2b(kind + source, digest_size=_KEY_BYTES).hexdigest()
    file = store / sys.implementation.cache_tag / key[:2] / key[2:]
    kept = read_kept(file)
    known = None if kept is None else marshal.loads(kept)
    if isinstance(known, CodeType):
        return _with_file(known, path)
    code = compiled()
    write_kept(file, marshal.dumps(code))
    return code


def _with_file(code: CodeType, path: str) -> CodeType:
    """Return the code with the path of the copy that is imported, for tracebacks and reach."""
    if code.co_filename == path:
        return code
    constants = tuple(
        _with_file(one, path) if isinstance(one, CodeType) else one for one in code.co_consts
    )
    return code.replace(co_filename=path, co_consts=constants)


def trim_compiled_modules(store: Path, *, limit: int = LIMIT_BYTES) -> None:
    """Remove everything from a store that is larger than ``limit`` bytes."""
    files = [path for path in store.rglob("*") if path.is_file()]
    if sum(path.stat().st_size for path in files) > limit:
        shutil.rmtree(store, ignore_errors=True)
