"""Named bytes in files below one folder, written in one step."""

import itertools
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
from typing_extensions import override

from assembler.errors import StorageError
from assembler.storage.blobs import BlobStore

FOLDER_VARIABLE = "GOLDENTRACE_STORAGE_DIR"
FOLDER_OPTION = "file_storage_path"

_SUFFIX = ".page"
_UNFINISHED = ".part"
# In one folder of the store: names are given by a move, which stays in one file system.
_UNFINISHED_FOLDER = "unfinished"
# No write takes this long, so such a file was left by a process that died.
_ABANDONED_SECONDS = 3600.0


class FileBlobs(BlobStore):
    """A file for each name; ``/`` in a name makes folders.

    A file gets its name when all of its bytes are on the disk: a process that is killed leaves the
    file or no file. What it had begun to write is removed when a store is opened, an hour later.
    """

    backend = "file"

    def __init__(self, folder: Path) -> None:
        """Use a folder, which need not exist yet."""
        self.folder = folder
        self._numbers = itertools.count()
        self._remove_abandoned()

    @override
    def put(self, name: str, parts: Sequence[memoryview]) -> None:
        path = self._path(name)
        with _as_storage_error(name):
            if path.exists():
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = self._unfinished_path()
            try:
                self._write(unfinished, parts)
                unfinished.replace(path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
            _sync_folder(path.parent)

    @override
    def get(self, name: str) -> memoryview | None:
        with _as_storage_error(name), suppress(FileNotFoundError):
            return memoryview(self._path(name).read_bytes())
        return None

    @override
    def exists(self, name: str) -> bool:
        with _as_storage_error(name):
            return self._path(name).exists()

    @override
    def remove(self, name: str) -> None:
        with _as_storage_error(name):
            self._path(name).unlink(missing_ok=True)

    @override
    def clear(self) -> None:
        with _as_storage_error(str(self.folder)):
            for suffix in (_SUFFIX, _UNFINISHED):
                for path in self.folder.rglob(f"*{suffix}"):
                    path.unlink(missing_ok=True)

    @override
    def close(self) -> None:
        return

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{_SUFFIX}"

    def _unfinished_path(self) -> Path:
        # Processes of several machines may share the folder.
        name = f"{socket.gethostname()}-{os.getpid()}-{next(self._numbers)}{_UNFINISHED}"
        folder = self.folder / _UNFINISHED_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    @staticmethod
    def _write(path: Path, parts: Sequence[memoryview]) -> None:
        with path.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())

    def _remove_abandoned(self) -> None:
        oldest = time.time() - _ABANDONED_SECONDS
        for path in (self.folder / _UNFINISHED_FOLDER).glob(f"*{_UNFINISHED}"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()


def storage_folder(extra_config: Mapping[str, object]) -> Path:
    """Return the folder of the file backend: an environment variable, an option, or the default.

    Raises:
        StorageError: the option is no text.
    """
    if FOLDER_VARIABLE in os.environ:
        return Path(os.environ[FOLDER_VARIABLE])
    if FOLDER_OPTION not in extra_config:
        return platformdirs.user_cache_path("goldentrace") / "storage"
    folder = extra_config[FOLDER_OPTION]
    if not isinstance(folder, str):
        raise StorageError(FOLDER_OPTION, "must be a path", expected="text", got=repr(folder))
    return Path(folder)


@contextmanager
def _as_storage_error(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        rule, got = "the file system must take the access", error.strerror
        raise StorageError(name, rule, expected="no error", got=got) from error


def _sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
