"""Pages that the client of a storage service keeps, and the memory that it is allowed to touch.

What a client is handed is checked: an address lies in memory that was registered, with all bytes
that follow it; in a buffer of a host pool it is a whole element, and no span leaves the buffer;
keys of one call are distinct; a page is read back with the size it was stored with. What is not so
is reported as a misuse, and is not done. What is registered is reported, and so are probes.

An address is told as an offset in a buffer: addresses differ in every process.
"""

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from traces.schema.storage_records import StorageOperation
from traces.targets.sglang.storage.usage_reports import (
    page_digest,
    report_storage_use,
    short_key,
    without_hashes,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySpan:
    """Bytes at an address."""

    address: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownBuffer:
    """A buffer of a host pool; ``element_bytes`` is the size of one element."""

    name: str
    span: MemorySpan
    element_bytes: int

    @classmethod
    def of(cls, tensor: torch.Tensor, *, name: str) -> "KnownBuffer":
        """Return the memory of a contiguous tensor."""
        return cls(
            name=name,
            span=MemorySpan(address=tensor.data_ptr(), size=tensor.nbytes),
            element_bytes=tensor.element_size(),
        )

    def holds(self, span: MemorySpan) -> bool:
        """Return whether all bytes of a span lie in the buffer."""
        end = self.span.address + self.span.size
        return self.span.address <= span.address and span.address + span.size <= end


class ClientStore:
    """Pages by key, of one backend.

    Args:
        backend: name under which the release registers the backend.
        buffers: of the host pools.
    """

    def __init__(self, backend: str, buffers: Iterable[KnownBuffer]) -> None:
        self._backend = backend
        self._buffers = tuple(buffers)
        self._registered: list[MemorySpan] = []
        self._pages: dict[str, bytes] = {}
        self._failing = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the stored pages, in the order in which they were stored first."""
        return tuple(self._pages)

    @contextmanager
    def missing_page(self, key: str) -> Iterator[None]:
        """Take a page away while the block runs."""
        pages = dict(self._pages)
        del self._pages[key]
        try:
            yield
        finally:
            self._pages = pages | self._pages

    @contextmanager
    def failing_page(self, key: str) -> Iterator[None]:
        """Have a page found, but not arrive, while the block runs."""
        self._failing = key
        try:
            yield
        finally:
            self._failing = ""

    @property
    def has_pages(self) -> bool:
        """True once a page is stored."""
        return bool(self._pages)

    def connect(self, settings: Sequence[object]) -> None:
        """Note the numbers among the settings of a client: sizes of memory, in bytes, and ranks."""
        numbers = [str(setting) for setting in settings if type(setting) is int]
        if numbers:
            key = f"connected with {', '.join(numbers)}"
            report_storage_use(operation="open", pool="", key=key, backend=self._backend)

    def register(self, span: MemorySpan) -> bool:
        """Register memory; return False where it reaches beyond a buffer of a host pool."""
        touched = next((one for one in self._buffers if _overlap(one.span, span)), None)
        if touched is not None and not touched.holds(span):
            self._blame("memory must not reach beyond a buffer", "the buffer", "more than it")
            return False
        self._registered.append(span)
        where = "of its own"
        if touched is not None:
            where = f"from byte {span.address - touched.span.address} of {touched.name}"
        report_storage_use(
            operation="open", pool="", key=f"memory {where}", size=span.size, backend=self._backend
        )
        return True

    def report_probe(self, operation: StorageOperation, key: str, page: bytes | None) -> None:
        """Report an access to a page with which a backend checks a new connection.

        Its key has a part that is another one in every process, and so may be its content.
        """
        report_storage_use(
            operation=operation,
            pool="",
            key=without_hashes(key),
            size=0 if page is None else len(page),
            backend=self._backend,
        )

    def require_distinct(self, keys: Sequence[str]) -> None:
        """Record a fault where one call has a key twice."""
        double = sorted({key for key in keys if keys.count(key) > 1})
        if double:
            self._blame("keys of one call must be distinct", "each once", double[0])

    def has_page(self, key: str) -> bool:
        """Return whether a page is stored."""
        self._report("query", key, self._pages.get(key))
        return key in self._pages

    def put(self, key: str, spans: Sequence[MemorySpan]) -> bool:
        """Store what lies in memory; return whether the memory may be read."""
        if not self._may_touch(spans):
            return False
        self.put_bytes(key, b"".join(ctypes.string_at(one.address, one.size) for one in spans))
        return True

    def put_bytes(self, key: str, page: bytes) -> None:
        """Store a page."""
        self._pages[key] = page
        self._report("store", key, page)

    def get(self, key: str, spans: Sequence[MemorySpan]) -> int | None:
        """Copy a page into memory; return its size, None where it is missing or does not fit."""
        page = self.get_bytes(key)
        if page is None or not self._may_touch(spans):
            return None
        asked = sum(one.size for one in spans)
        if asked != len(page):
            self._blame("a page must be read with its size", f"{len(page)} bytes", asked)
            return None
        first = 0
        for one in spans:
            ctypes.memmove(one.address, page[first : first + one.size], one.size)
            first += one.size
        return len(page)

    def get_bytes(self, key: str) -> bytes | None:
        """Return a page; None where it is missing."""
        page = None if key == self._failing else self._pages.get(key)
        self._report("fetch", key, page)
        return page

    def clear(self) -> None:
        """Forget every page."""
        self._pages.clear()

    def _may_touch(self, spans: Sequence[MemorySpan]) -> bool:
        """Return whether spans are registered memory; report the first that is not."""
        for one in spans:
            broken = self._broken_rule(one)
            if broken is not None:
                self._blame(*broken)
                return False
        return True

    def _broken_rule(self, span: MemorySpan) -> tuple[str, str, object] | None:
        if span.size <= 0:
            return "a page must have bytes", "more than 0", span.size
        largest = max((one.size for one in self._registered), default=span.size)
        if span.size > largest:
            # Not the number: an address that is taken for a size is another one every time.
            return "a page must be in registered memory", f"at most {largest} bytes", "more"
        if not any(_holds(one, span) for one in self._registered):
            return "memory must be registered", f"{span.size} registered bytes", "others"
        touched = next((one for one in self._buffers if _overlap(one.span, span)), None)
        if touched is None:
            # A buffer of the backend's own, from which it copies pages.
            return None
        if not touched.holds(span):
            return "memory must not reach beyond a buffer", "the buffer", "more than it"
        offset = span.address - touched.span.address
        if offset % touched.element_bytes:
            return "an address must be a whole element", f"steps of {touched.element_bytes}", offset
        return None

    def _blame(self, rule: str, expected: str, got: object) -> None:
        text = f"{rule}; expected {expected}, got {got}"
        report_storage_use(operation="misuse", pool="", key=text, backend=self._backend)

    def _report(self, operation: StorageOperation, key: str, page: bytes | None) -> None:
        report_storage_use(
            operation=operation,
            pool="",
            key=short_key(key),
            size=0 if page is None else len(page),
            backend=self._backend,
            sha256="" if page is None else page_digest(page),
        )


def _holds(outer: MemorySpan, inner: MemorySpan) -> bool:
    end = outer.address + outer.size
    return outer.address <= inner.address and inner.address + inner.size <= end


def _overlap(one: MemorySpan, other: MemorySpan) -> bool:
    return one.address < other.address + other.size and other.address < one.address + one.size
