"""Observation of the release's own file backend: the files that it really makes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from traces.targets.sglang.storage.usage_reports import (
    StorageOperation,
    page_digest,
    report_storage_use,
    short_key,
)


class FileObserver:
    """Reports every page that a backend stores, fetches or looks for below a directory.

    The key of a page is the path of its file below the directory. It is known from the first time
    that the page is stored; until then a page is known by the key that the backend was given.
    """

    def __init__(self, backend_name: str, directory: Path) -> None:
        self._backend = backend_name
        self._directory = directory
        self._files: dict[str, str] = {}

    def has_pages(self) -> bool:
        """Return whether a page was stored."""
        return bool(self._files)

    @contextmanager
    def observing(self, backend: Any) -> Iterator[None]:  # noqa: ANN401 - the release's own class
        """Report the operations of a backend while the block runs."""
        set_page, get_page, has_page = backend.set, backend.get, backend.exists

        def set_and_report(key: str, *values: Any, **named: Any) -> Any:  # noqa: ANN401
            before = self._found()
            result = set_page(key, *values, **named)
            made = sorted(self._found() - before)
            if made:
                self._files[key] = made[0]
            for name in made:
                self._report("store", name)
            return result

        def get_and_report(key: str, *values: Any, **named: Any) -> Any:  # noqa: ANN401
            self._report("fetch", self._files.get(key, key))
            return get_page(key, *values, **named)

        def exists_and_report(key: str) -> Any:  # noqa: ANN401
            self._report("query", self._files.get(key, key))
            return has_page(key)

        with ExitStack() as replaced:
            for name, function in (
                ("set", set_and_report),
                ("get", get_and_report),
                ("exists", exists_and_report),
            ):
                replaced.enter_context(patch.object(backend, name, function))
            yield

    def _found(self) -> set[str]:
        files = (file for file in self._directory.rglob("*") if file.is_file())
        return {file.relative_to(self._directory).as_posix() for file in files}

    def _report(self, operation: StorageOperation, name: str) -> None:
        file = self._directory / name
        page = file.read_bytes() if file.is_file() else None
        report_storage_use(
            operation=operation,
            pool="",
            key=short_key(name),
            size=0 if page is None else len(page),
            backend=self._backend,
            sha256="" if page is None else page_digest(page),
        )
