"""Deterministic storage backend in the memory of one process; every operation is reported.

It imports the release, which loads it by name, and has the operations of all releases: pages of the
anchor by key (``batch_get``, ``batch_set``), the same in slots of its host pool (``..._v1``), and
pages of any pool (``..._v2``). A script can take pages away, have some fail to arrive, and hold a
query.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event
from typing import Any, TypeAlias

import torch
from sglang.srt.mem_cache.hicache_storage import HiCacheStorage, PoolTransferResult

from traces.schema.storage_records import StorageOperation
from traces.targets.sglang.storage import LOADER
from traces.targets.sglang.storage.usage_reports import (
    page_digest,
    pool_settings,
    rank_namespace,
    report_storage_use,
    short_key,
)

_ANCHOR = "KV"
_EVERY_PAGE = "all_pages"
# Far more than a script holds a query.
_HELD_S = 20.0

_PageWork: TypeAlias = Callable[[str, str, Any, int], bool]
"""Reads or writes a page: pool, key, host pool, first slot."""


class MemoryStorage(HiCacheStorage):  # type: ignore[misc]
    """Pages by pool and key; ``storage_config`` has the release's settings for this rank."""

    def __init__(self, storage_config: Any, settings: object = None) -> None:  # noqa: ANN401
        del settings
        self._pages: dict[tuple[str, str], torch.Tensor] = {}
        self._pools: dict[str, Any] = {}
        self._lost: set[tuple[str, str]] = set()
        self._may_query = Event()
        self._may_query.set()
        self._is_queried = Event()
        self.was_fetched = False  # whether a page was asked for since a script has cleared it
        namespace = rank_namespace(storage_config, left_out=LOADER)
        report_storage_use(operation="open", pool="", key=namespace)

    def has_page(self, pool: str, key: str) -> bool:
        """Return whether a page is stored; this is no operation of the release."""
        return (pool, key) in self._pages

    def hands_out(self, pool: str, key: str) -> bool:
        """Return whether a page is stored and arrives; this is no operation of the release."""
        return self.has_page(pool, key) and (pool, key) not in self._lost

    def take_over(self, closed: "MemoryStorage") -> None:
        """Take the pages of a backend that was closed; this is no operation of the release."""
        self._pages = closed._pages  # noqa: SLF001 - of its own class

    @contextmanager
    def without_page(self, pool: str, key: str) -> Iterator[None]:
        """Take a page away while the block runs."""
        page = self._pages.pop((pool, key))
        try:
            yield
        finally:
            self._pages[pool, key] = page

    @contextmanager
    def failing_page(self, pool: str, key: str) -> Iterator[None]:
        """Have a page found, but not arrive, while the block runs."""
        self._lost.add((pool, key))
        try:
            yield
        finally:
            self._lost.clear()

    @contextmanager
    def held_queries(self) -> Iterator[None]:
        """Answer no query before the block has ended."""
        self._may_query.clear()
        self._is_queried.clear()
        try:
            yield
        finally:
            self._may_query.set()

    def wait_for_query(self) -> None:
        """Wait until a query is held, for the time that a script holds one at most."""
        self._is_queried.wait(_HELD_S)

    def register_mem_host_pool_v2(self, host_pool: Any, host_pool_name: Any) -> None:  # noqa: ANN401
        """Register a host pool by its name."""
        name = _upper(host_pool_name)
        self._pools[name] = host_pool
        report_storage_use(operation="open", pool=name, key=pool_settings(host_pool))

    def clear(self) -> None:
        """Remove every page of this rank."""
        report_storage_use(operation="clear", pool="", key="")
        self._pages.clear()

    def close(self) -> None:
        """Report that the release uses it no more; a later one may take its pages over."""
        report_storage_use(operation="close", pool="", key="")

    def exists(self, key: str) -> bool:
        """Return whether a page of the anchor is stored."""
        return self._find("query", _ANCHOR, key) is not None

    def get(self, key: str, target_location: Any = None, target_sizes: object = None) -> Any:  # noqa: ANN401
        """Return a page of the anchor; None when it is missing."""
        del target_sizes
        page = self._find("fetch", _ANCHOR, key)
        if page is None or target_location is None:
            return page
        return target_location.copy_(page.view(target_location.dtype))

    def set(
        self,
        key: str,
        value: torch.Tensor,
        target_location: object = None,
        target_sizes: object = None,
    ) -> bool:
        """Store a page of the anchor."""
        del target_location, target_sizes
        self._keep(_ANCHOR, key, value)
        return True

    def batch_get(
        self,
        keys: Sequence[str],
        target_locations: Sequence[Any] | None = None,
        target_sizes: object = None,
    ) -> list[Any]:
        """Return pages of the anchor, None for each missing one."""
        del target_sizes
        return [
            self.get(key, target)
            for key, target in zip(keys, target_locations or [None] * len(keys), strict=True)
        ]

    def batch_set(
        self,
        keys: Sequence[str],
        values: Sequence[torch.Tensor],
        target_locations: object = None,
        target_sizes: object = None,
    ) -> bool:
        """Store pages of the anchor."""
        del target_locations, target_sizes
        for key, value in zip(keys, values, strict=True):
            self._keep(_ANCHOR, key, value)
        return True

    def batch_get_v1(
        self, keys: Sequence[str], host_indices: torch.Tensor, extra_info: object = None
    ) -> list[bool]:
        """Copy whole pages of the anchor into slots of its host pool, ``(tokens,) int64``."""
        _report_prefix("fetch", extra_info)
        return _each_first(_ANCHOR, keys, self.mem_pool_host, host_indices, self._read)

    def batch_set_v1(
        self, keys: Sequence[str], host_indices: torch.Tensor, extra_info: object = None
    ) -> list[bool]:
        """Store whole pages of the anchor from slots of its host pool, ``(tokens,) int64``."""
        _report_prefix("store", extra_info)
        return _each_first(_ANCHOR, keys, self.mem_pool_host, host_indices, self._write)

    def batch_exists(self, keys: Sequence[str], extra_info: object = None) -> int:
        """Return how many pages of the anchor are stored before the first missing one."""
        self._is_queried.set()
        self._may_query.wait(_HELD_S)
        _report_prefix("query", extra_info)
        return self._leading([self.exists(key) for key in keys])

    def batch_exists_v2(
        self,
        keys: Sequence[str],
        pool_transfers: Sequence[Any] | None = None,
        extra_info: object = None,
    ) -> Any:  # noqa: ANN401 - the release's own result
        """Return the longest prefix that every pool can restore, and the hits of each pool."""
        usable = self.batch_exists(keys, extra_info)
        hits: dict[Any, int] = {}
        for transfer in pool_transfers or ():
            pool = _upper(transfer.name)
            there = [self._find("query", pool, key) is not None for key in keys[:usable]]
            policy = str(getattr(transfer.hit_policy, "value", transfer.hit_policy))
            if policy == _EVERY_PAGE:
                usable = self._leading(there)
            else:
                usable = _trailing(there, width=max(1, len(transfer.keys or ())))
            hits[transfer.name] = usable
        return PoolTransferResult(usable, hits)

    def batch_get_v2(
        self, transfers: Sequence[Any], extra_info: object = None
    ) -> dict[Any, list[bool]]:
        """Copy pages into the host pools of their transfers."""
        _report_prefix("fetch", extra_info)
        return {each.name: self._each_page(each, self._read) for each in transfers}

    def batch_set_v2(
        self, transfers: Sequence[Any], extra_info: object = None
    ) -> dict[Any, list[bool]]:
        """Store pages of the host pools of their transfers."""
        _report_prefix("store", extra_info)
        return {each.name: self._each_page(each, self._write) for each in transfers}

    def _each_page(
        self,
        transfer: Any,  # noqa: ANN401
        work: _PageWork,
    ) -> list[bool]:
        """Read or write every page of a transfer; refuse it where slots and keys do not match."""
        pool, keys, slots = _upper(transfer.name), transfer.keys or [], transfer.host_indices
        host = self._pools.get(pool)
        if host is None or slots is None or len(slots) != len(keys) * _page_width(host):
            for key in keys:
                report_storage_use(operation="refuse", pool=pool, key=short_key(key))
            return [False] * len(keys)
        return _each_first(pool, keys, host, slots, work)

    def _read(self, pool: str, key: str, host: Any, slot: int) -> bool:  # noqa: ANN401
        page = self._find("fetch", pool, key)
        if page is not None:
            host.set_from_flat_data_page(slot, page.clone())
        return page is not None

    def _write(self, pool: str, key: str, host: Any, slot: int) -> bool:  # noqa: ANN401
        self._keep(pool, key, host.get_data_page(slot, flat=True))
        return True

    def _keep(self, pool: str, key: str, page: torch.Tensor) -> None:
        self._pages[pool, key] = page.detach().clone()
        self._report("store", pool, key, page)

    def _find(self, operation: StorageOperation, pool: str, key: str) -> torch.Tensor | None:
        page = self._pages.get((pool, key))
        self.was_fetched |= operation == "fetch"
        if operation == "fetch" and (pool, key) in self._lost:
            page = None
        self._report(operation, pool, key, page)
        return page

    @staticmethod
    def _report(
        operation: StorageOperation, pool: str, key: str, page: torch.Tensor | None
    ) -> None:
        report_storage_use(
            operation=operation,
            pool=pool,
            key=short_key(key),
            size=0 if page is None else page.nbytes,
            sha256="" if page is None else page_digest(_bytes_of(page)),
        )

    @staticmethod
    def _leading(there: Sequence[bool]) -> int:
        return there.index(False) if False in there else len(there)


def _each_first(
    pool: str,
    keys: Sequence[str],
    host: Any,  # noqa: ANN401 - any host pool
    slots: torch.Tensor,
    work: _PageWork,
) -> list[bool]:
    """Call ``work`` with the first slot of every page, and return what it returns."""
    first = slots[:: _page_width(host)].tolist()
    return [work(pool, key, host, slot) for key, slot in zip(keys, first, strict=True)]


def _page_width(host: Any) -> int:  # noqa: ANN401 - any host pool
    return getattr(host, "page_size", 1) or 1


def _report_prefix(operation: StorageOperation, extra_info: Any) -> None:  # noqa: ANN401
    """Report the pages before those of an operation, where a release tells which they are."""
    prefix = getattr(extra_info, "prefix_keys", None)
    if prefix:
        key = f"{len(prefix)} pages before, the last one {short_key(prefix[-1])}"
        report_storage_use(operation=operation, pool="", key=key)


def _bytes_of(page: torch.Tensor) -> Any:  # noqa: ANN401 - a NumPy array
    return page.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _trailing(there: Sequence[bool], *, width: int) -> int:
    """Return the length of the longest prefix whose last ``width`` pages are stored."""
    for length in range(len(there), 0, -1):
        if all(there[max(0, length - width) : length]):
            return length
    return 0


def _upper(name: Any) -> str:  # noqa: ANN401 - an enumeration of the release, or its value
    return str(getattr(name, "value", name)).upper()
