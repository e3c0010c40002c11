"""The files of kept runs: written in one step, checked when read, the oldest removed first.

``<cache>/recordings/<context>/<tree>/`` holds the runs of one tree in one context: ``tree.bin`` for
the tree itself and one file for each scenario. A file that is cut short, damaged or of another
format is taken for none.
"""

import hashlib
import os
import shutil
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from tools.kept_files import read_kept, write_kept
from tools.workers.protocol import Reach

LIMIT_BYTES = 2 * 1024**3
"""Size above which the trees that were not used for the longest time are removed."""

_TREE = "tree.bin"
_RUN_SUFFIX = ".run"

_Content = TypeVar("_Content")


class KeptTree(msgspec.Struct, frozen=True, kw_only=True):
    """One tree whose runs are kept.

    Attributes:
        side: the side as the user named it.
        target: name of the target.
        release: see :class:`~tools.sides.kept.trees.TreeContent`.
        files: as above.
        texts: text of every module that the import or a run has imported.
        imports: what the import of the target reached.
        variables: digest of each environment variable that was read.
        builders: the stack builders of the tree.
    """

    side: str
    target: str
    release: str
    files: dict[str, str]
    texts: dict[str, str]
    imports: Reach
    variables: dict[str, str]
    builders: tuple[str, ...]


class KeptRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run, which was the same under every hash seed that it was made under.

    Attributes:
        text: the canonical trace; empty when the tree has no parts for the scenario.
        sites: source lines of its records, as JSON.
        reason: why the tree cannot run the scenario; empty when it can.
        reach: what it reached, under any of these.
        seconds: time that it took.
    """

    text: str
    sites: str
    reason: str
    reach: Reach
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFolder:
    """The runs of one tree, as :func:`list_folders` describes them."""

    path: Path
    tree: KeptTree
    run_num: int
    size: int
    used: float


@dataclass(frozen=True, slots=True)
class RunStore:
    """The directory of all kept runs."""

    root: Path

    def folder(self, context: str, tree: str) -> Path:
        """Return the directory of one tree in one context."""
        return self.root / context[:16] / tree[:32]

    def trees(self, context: str) -> list[Path]:
        """Return the directories of all trees of a context, the last used one first."""
        folders = [path for path in (self.root / context[:16]).glob("*") if path.is_dir()]
        return sorted(folders, key=_last_use, reverse=True)

    def read_tree(self, folder: Path) -> KeptTree | None:
        """Return the tree of a directory; None when there is none."""
        return _read(folder / _TREE, KeptTree)

    def write_tree(self, folder: Path, tree: KeptTree) -> None:
        """Write the tree of a directory."""
        _write(folder / _TREE, tree)

    def read_run(self, folder: Path, scenario: str) -> KeptRun | None:
        """Return the run of a scenario; None when there is none."""
        return _read(folder / f"{scenario[:32]}{_RUN_SUFFIX}", KeptRun)

    def write_run(self, folder: Path, scenario: str, run: KeptRun) -> None:
        """Write the run of a scenario, named by its digest."""
        _write(folder / f"{scenario[:32]}{_RUN_SUFFIX}", run)

    def mark_used(self, folder: Path) -> None:
        """Note that a tree was used now."""
        with suppress(OSError):
            os.utime(folder)

    def remove(self, folder: Path) -> None:
        """Remove one tree with its runs."""
        shutil.rmtree(folder, ignore_errors=True)

    def list_folders(self) -> list[KeptFolder]:
        """Return every tree with its size in bytes, the last used one first."""
        found = []
        for folder in sorted(self.root.glob("*/*"), key=_last_use, reverse=True):
            tree = self.read_tree(folder)
            if tree is not None:
                runs = len(list(folder.glob(f"*{_RUN_SUFFIX}")))
                found.append(
                    KeptFolder(
                        path=folder,
                        tree=tree,
                        run_num=runs,
                        size=_size(folder),
                        used=_last_use(folder),
                    )
                )
        return found

    def trim(self, limit: int = LIMIT_BYTES) -> None:
        """Remove the trees that were not used for the longest time until a limit is kept."""
        folders = sorted(self.root.glob("*/*"), key=_last_use, reverse=True)
        total = 0
        for folder in folders:
            total += _size(folder)
            if total > limit:
                self.remove(folder)

    def clear(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.root, ignore_errors=True)


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def _read(path: Path, kind: type[_Content]) -> _Content | None:
    body = read_kept(path)
    if body is None:
        return None
    try:
        return msgspec.msgpack.decode(zlib.decompress(body), type=kind)
    except (zlib.error, msgspec.DecodeError):
        return None


def _write(path: Path, content: object) -> None:
    """Write a file in one step; where the cache cannot be written, nothing is kept."""
    write_kept(path, zlib.compress(msgspec.msgpack.encode(content), level=3))


def known_variables(names: Mapping[str, object] | tuple[str, ...]) -> dict[str, str]:
    """Return a digest of the present value of each environment variable; empty for none."""
    return {
        name: hashlib.sha256(os.environ[name].encode(errors="surrogateescape")).hexdigest()
        if name in os.environ
        else ""
        for name in names
    }
