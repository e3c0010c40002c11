"""Observation of the files that a release's own backends really make."""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from traces.schema.storage_records import StorageOperation
from traces.targets.sglang.storage.usage_reports import (
    page_digest,
    report_storage_use,
    short_key,
)


class FileObserver:
    """Reports every page that a backend stores, fetches or looks for below a directory.

    Where a page has a file of its own, its key is the path of that file below the directory. It is
    known from the first time that the page is stored; until then a page is known by the key that
    the backend was given. Where a file has many pages, a key is the path with the place in it.
    """

    def __init__(self, backend_name: str, directory: Path) -> None:
        self.backend = backend_name
        self.directory = directory
        self._files: dict[str, str] = {}
        self._has_written = False

    def has_pages(self) -> bool:
        """Return whether a page was stored."""
        return bool(self._files) or self._has_written

    @property
    def keys(self) -> tuple[str, ...]:
        """Paths of the files of single pages, in the order in which they were stored first."""
        return tuple(self._files.values())

    def page_bytes(self) -> int:
        """Return the bytes of all files of single pages that are there."""
        return sum(file.stat().st_size for file in self._page_files())

    def order_ages(self) -> None:
        """Give the files of single pages ages in the order in which they were stored first.

        Files that are made one after another may have equal ages.
        """
        for number, file in enumerate(self._page_files()):
            os.utime(file, (number, number))

    @contextmanager
    def missing_page(self, key: str) -> Iterator[None]:
        """Take the file of a page away while the block runs."""
        file = self.directory / key
        with tempfile.TemporaryDirectory() as elsewhere:
            aside = shutil.move(file, elsewhere)
            try:
                yield
            finally:
                shutil.move(aside, file)

    @contextmanager
    def observing(self, backend: Any) -> Iterator[None]:  # noqa: ANN401 - the release's own class
        """Report the operations of a backend with a file for each page while the block runs."""
        set_page, get_page, has_page = backend.set, backend.get, backend.exists

        def set_and_report(key: str, *values: Any, **named: Any) -> Any:  # noqa: ANN401
            before = self._found()
            result = set_page(key, *values, **named)
            made = sorted(self._found() - before)
            if made:
                self._files[key] = made[0]
            for name in made:
                self._report_file("store", name)
            return result

        def get_and_report(key: str, *values: Any, **named: Any) -> Any:  # noqa: ANN401
            self._report_file("fetch", self._files.get(key, key))
            return get_page(key, *values, **named)

        def exists_and_report(key: str) -> Any:  # noqa: ANN401
            self._report_file("query", self._files.get(key, key))
            return has_page(key)

        with ExitStack() as replaced:
            for name, function in (
                ("set", set_and_report),
                ("get", get_and_report),
                ("exists", exists_and_report),
            ):
                replaced.enter_context(patch.object(backend, name, function))
            yield

    @contextmanager
    def observing_descriptors(self) -> Iterator[None]:
        """Report what is written to and read from places in files while the block runs."""
        with ExitStack() as replaced:
            for name, function in (
                ("write", self._writing(os.write)),
                ("pwrite", self._writing(os.pwrite)),
                ("read", self._reading(os.read)),
                ("pread", self._reading(os.pread)),
            ):
                replaced.enter_context(patch.object(os, name, function))
            yield

    def _writing(self, write: Callable[..., int]) -> Callable[..., int]:
        def write_and_report(file: int, page: Any, *place: int) -> int:  # noqa: ANN401
            key = self._place(file, *place)
            written = write(file, page, *place)
            if key:
                self._has_written = True
                self._report("write", key, bytes(page)[:written])
            return written

        return write_and_report

    def _reading(self, read: Callable[..., bytes]) -> Callable[..., bytes]:
        def read_and_report(file: int, size: int, *place: int) -> bytes:
            key = self._place(file, *place)
            page = read(file, size, *place)
            if key:
                self._report("read", key, page)
            return page

        return read_and_report

    def _place(self, file: int, offset: int | None = None) -> str:
        """Return the key of a place in an open file; empty for a file that is elsewhere."""
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return ""
        path = Path(f"/proc/self/fd/{file}").readlink()
        if not path.is_relative_to(self.directory.resolve()):
            return ""
        if offset is None:
            offset = os.lseek(file, 0, os.SEEK_CUR)
        return f"{path.relative_to(self.directory.resolve()).as_posix()} from byte {offset}"

    def _page_files(self) -> list[Path]:
        files = (self.directory / name for name in self._files.values())
        return [file for file in files if file.is_file()]

    def _found(self) -> set[str]:
        files = (file for file in self.directory.rglob("*") if file.is_file())
        return {file.relative_to(self.directory).as_posix() for file in files}

    def _report_file(self, operation: StorageOperation, name: str) -> None:
        file = self.directory / name
        self._report(operation, name, file.read_bytes() if file.is_file() else None)

    def _report(self, operation: StorageOperation, key: str, page: bytes | None) -> None:
        report_storage_use(
            operation=operation,
            pool="",
            key=short_key(key),
            size=0 if page is None else len(page),
            backend=self.backend,
            sha256="" if page is None else page_digest(page),
        )
