"""The content of a package's source tree: a digest of each file, and of all together."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

_LEFT_OUT = frozenset({"__pycache__", ".git"})
_COMPILED = (".pyc", ".pyo")


@dataclass(frozen=True)
class TreeContent:
    """The files of one package.

    Attributes:
        root: directory that holds the package's folder.
        release: version of the package as far as it is known, which its metadata may tell it.
        files: digest of each file, by its path relative to ``root``.
    """

    root: Path
    release: str
    files: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """A digest of everything above but the place."""
        return digest_of([self.release, *(f"{name} {of}" for name, of in self.files.items())])

    def text(self, file: str) -> str | None:
        """Return the text of a file; None when it is not UTF-8."""
        try:
            return (self.root / file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None


def read_tree(root: Path, *, folder: str, release: str) -> TreeContent:
    """Return the content of a package; compiled modules are left out."""
    files = {path.relative_to(root).as_posix(): file_digest(path) for path in _files(root / folder)}
    return TreeContent(root=root, release=release, files=dict(sorted(files.items())))


def digest_of_folders(root: Path, *, folders: tuple[str, ...]) -> str:
    """Return one digest of all files in some folders."""
    return digest_of(
        f"{path.relative_to(root).as_posix()} {file_digest(path)}"
        for folder in folders
        for path in sorted(_files(root / folder))
    )


def digest_of(lines: Iterator[str] | list[str]) -> str:
    """Return a digest of some lines, as hexadecimal digits."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode(errors="surrogateescape"))
        digest.update(b"\0")
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """Return a digest of a file's content; of a link that leads nowhere, of where it leads."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return f"unreadable {path.readlink() if path.is_symlink() else ''}"


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name not in _LEFT_OUT]
        yield from (Path(place, name) for name in names if not name.endswith(_COMPILED))
