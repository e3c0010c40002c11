"""Store of pages in memory, which fails as traffic says, or ends the thread that asks it."""

from collections.abc import Sequence

from typing_extensions import override

from assembler.errors import StorageError
from assembler.storage.blobs import BlobStore
from traces.targets.native.explore.faults import FaultInjector


class StorageThreadDiedError(BaseException):
    """The end of a storage thread, raised by the injector; threads catch every Exception."""


class PageStore(BlobStore):
    """Named bytes in memory; they outlive the tier that wrote them."""

    backend = "memory"

    def __init__(self, faults: FaultInjector) -> None:
        self._faults = faults
        self._kept: dict[str, bytes] = {}

    @override
    def put(self, name: str, parts: Sequence[memoryview]) -> None:
        self._fail("put")
        self._kept[name] = b"".join(parts)

    @override
    def get(self, name: str) -> memoryview | None:
        self._fail("get")
        return memoryview(self._kept[name]) if name in self._kept else None

    @override
    def exists(self, name: str) -> bool:
        self._fail("exists")
        return name in self._kept

    @override
    def remove(self, name: str) -> None:
        self._kept.pop(name, None)

    @override
    def clear(self) -> None:
        self._kept.clear()

    @override
    def close(self) -> None:
        """Keep everything."""

    def _fail(self, operation: str) -> None:
        if self._faults.should_fail("storage"):
            rule = f"{operation} must succeed; this failure is injected"
            raise StorageError("page store", rule, expected="success", got="none")
        if self._faults.should_fail("storage thread"):
            raise StorageThreadDiedError("injected")
