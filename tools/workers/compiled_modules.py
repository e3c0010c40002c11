"""Compiled modules, kept by the content of their source.

Python keeps compiled code beside the source, by its path and time: a fork of a release, or a
revision that was just checked out, is compiled anew, in every worker, and everything is where
``PYTHONDONTWRITEBYTECODE`` is set. Code that is kept by content serves every copy of a file.

The module needs the standard library alone: it is used before a worker imports its target.
"""

import ast
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


# The store of this process, once it keeps compiled modules.
_stores: list[Path] = []


def keep_compiled_modules(store: Path, folders: Sequence[Path]) -> None:
    """Load the modules below some folders by the code that ``store`` keeps; add what it lacks.

    Later imports of this process are concerned. A store that cannot be read or written is passed
    over: modules are then compiled each time.
    """
    _stores.append(store)
    _load_below(folders, kind="", transformed=lambda source, _: source, on_load=lambda *_: None)


def compile_modules(
    folder: Path,
    *,
    kind: str,
    transformed: Callable[[bytes, str], ast.Module],
    on_load: Callable[[str, str], None],
) -> None:
    """Load the modules of a package, and others beside it, by the code of other syntax trees.

    Later imports of this process are concerned. Code is kept where :func:`keep_compiled_modules`
    keeps it, if that was called.

    Args:
        folder: directory of the package.
        kind: tells this code from other code that is kept for the same source.
        transformed: returns the tree for a source and a name of its content.
        on_load: called before a module is executed, with that name and the module's path.
    """
    # A package itself is a module of the directory that it lies in.
    _load_below([folder], beside=folder.parent, kind=kind, transformed=transformed, on_load=on_load)


def _load_below(
    folders: Sequence[Path],
    *,
    beside: Path | None = None,
    kind: str,
    transformed: Callable[[bytes, str], bytes | ast.Module],
    on_load: Callable[[str, str], None],
) -> None:
    roots = [folder.absolute() for folder in folders]

    class Loader(SourceFileLoader):
        # typing.override is from Python 3.12 on.
        def get_code(self, fullname: str) -> CodeType:  # type: ignore[explicit-override]
            path = self.get_filename(fullname)
            source = self.get_data(path)
            content = _name_of(source, kind=kind)
            on_load(content, path)
            return _code_of(
                content, path, lambda: self.source_to_code(transformed(source, content), path)
            )

    details = ((ExtensionFileLoader, EXTENSION_SUFFIXES), (Loader, SOURCE_SUFFIXES))
    find = FileFinder.path_hook(*details)

    def find_below(path: str) -> PathEntryFinder:
        place = Path(path).absolute()
        if place != beside and not any(place.is_relative_to(root) for root in roots):
            raise ImportError(f"{path}: its modules are not kept compiled")
        return find(path)

    sys.path_hooks.insert(0, find_below)
    sys.path_importer_cache.clear()


def _name_of(source: bytes, *, kind: str) -> str:
    # The code depends on the interpreter, and on whether it leaves assertions out.
    kinds = MAGIC_NUMBER + bytes([sys.flags.optimize]) + kind.encode()
    return hashlib.blake2b(kinds + source, digest_size=_KEY_BYTES).hexdigest()


def _code_of(content: str, path: str, compiled: Callable[[], CodeType]) -> CodeType:
    if not _stores:
        return compiled()
    file = _stores[-1] / sys.implementation.cache_tag / content[:2] / content[2:]
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
