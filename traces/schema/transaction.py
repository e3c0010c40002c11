"""Changes of several files that are undone together when one of them fails.

New bytes go to temporary files beside their targets and reach the disk first. Only then are the
targets replaced, each by one rename. An exception at any point, an interrupt included, puts every
target back and removes every temporary file.

A kill or a power cut between two renames leaves some targets new and the others old, each of them
whole, and temporary files whose names end in ``.goldentrace-tmp``. Running the command again writes
the rest.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

TEMPORARY_SUFFIX = ".goldentrace-tmp"


class Transaction:
    """Writes and removals collected in a ``with`` block; nothing happens before ``commit``."""

    def __init__(self) -> None:
        self._staged: dict[Path, Path | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for staged in self._staged.values():
            if staged is not None:
                staged.unlink(missing_ok=True)

    def write(self, path: Path, content: bytes) -> None:
        """Stage new content for a file; raise OSError when its directory cannot be written."""
        # The name is noted before the file exists, so that no interrupt can leave it behind.
        staged = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
        self._staged[path] = staged
        with staged.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            staged.chmod(path.stat().st_mode & 0o777)

    def remove(self, path: Path) -> None:
        """Stage the removal of a file, in place of what was staged for it before."""
        staged = self._staged.get(path)
        if staged is not None:
            staged.unlink(missing_ok=True)
        self._staged[path] = None

    def commit(self) -> None:
        """Replace and remove the staged files.

        Raises:
            OSError: one of them could not be changed; all are as they were before.
        """
        before = {path: _content(path) for path in self._staged}
        touched: list[Path] = []
        try:
            for path, staged in self._staged.items():
                touched.append(path)
                if staged is None:
                    path.unlink(missing_ok=True)
                else:
                    staged.replace(path)
        except BaseException:
            for path in touched:
                _restore(path, before[path])
            raise
        for folder in {path.parent for path in self._staged}:
            _sync_folder(folder)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _restore(path: Path, content: bytes | None) -> None:
    if _content(path) == content:
        return
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
