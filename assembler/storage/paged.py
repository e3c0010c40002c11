"""Pages of host pools in a store of named bytes."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from typing_extensions import override

from assembler.device.access import tensor_access
from assembler.errors import StorageError, TransferError
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.group import PoolTransfer
from assembler.names import PoolHitPolicy, PoolName
from assembler.storage.blobs import BlobStore
from assembler.storage.interface import (
    HiCacheStorage,
    HiCacheStorageConfig,
    HiCacheStorageExtraInfo,
    PoolTransferResult,
    StorageStats,
)
from assembler.storage.page_format import (
    PageNames,
    PageRefusedError,
    decode_page,
    encode_page,
)

logger = logging.getLogger(__name__)


class PagedStorage(HiCacheStorage):
    """A backend that keeps each page under a name of its own.

    A page is read completely and checked before a byte of host memory changes. One that is torn,
    damaged or of another pool is removed and counts as missing.

    Attributes:
        blobs: the store of bytes.
        pools: the registered host pools by name.
    """

    def __init__(self, blobs: BlobStore, config: HiCacheStorageConfig) -> None:
        self.blobs = blobs
        self.pools: dict[PoolName, HostKVCache] = {}
        self._names = PageNames(config=config)
        self._counts: Counter[str] | None = Counter() if config.enable_storage_metrics else None

    @override
    def register_mem_pool_host(self, mem_pool_host: HostKVCache) -> None:
        self.pools[PoolName.KV] = mem_pool_host

    @override
    def register_mem_host_pool_v2(self, host_pool: HostKVCache, host_pool_name: PoolName) -> None:
        self.pools[host_pool_name] = host_pool

    @override
    def exists(self, key: str) -> bool:
        return self.has_page(PoolName.KV, key)

    @override
    def batch_exists(self, keys: Sequence[str], extra_info: HiCacheStorageExtraInfo) -> int:
        return self._run_length(PoolName.KV, keys)

    @override
    def batch_get_v1(
        self,
        keys: Sequence[str],
        host_indices: torch.Tensor,
        extra_info: HiCacheStorageExtraInfo,
    ) -> list[bool]:
        return self._each_page(self.fetch_page, PoolName.KV, keys, host_indices)

    @override
    def batch_set_v1(
        self,
        keys: Sequence[str],
        host_indices: torch.Tensor,
        extra_info: HiCacheStorageExtraInfo,
    ) -> list[bool]:
        return self._each_page(self.store_page, PoolName.KV, keys, host_indices)

    @override
    def batch_exists_v2(
        self,
        keys: Sequence[str],
        pool_transfers: Sequence[PoolTransfer],
        extra_info: HiCacheStorageExtraInfo,
    ) -> PoolTransferResult:
        kv_pages = self._run_length(PoolName.KV, keys)
        prefixes = set(range(1, kv_pages + 1))
        pool_pages: dict[PoolName, int] = {}
        for transfer in pool_transfers:
            usable = self._usable_prefixes(transfer, keys[:kv_pages], extra_info.prefix_keys)
            pool_pages[transfer.name] = max(usable, default=0)
            prefixes &= usable
        return PoolTransferResult(
            kv_hit_pages=kv_pages,
            extra_pool_hit_pages=pool_pages,
            restorable_pages=tuple(sorted(prefixes)),
        )

    @override
    def batch_get_v2(
        self, transfers: Sequence[PoolTransfer], extra_info: HiCacheStorageExtraInfo
    ) -> dict[PoolName, list[bool]]:
        return self._each_transfer(self.fetch_page, transfers)

    @override
    def batch_set_v2(
        self, transfers: Sequence[PoolTransfer], extra_info: HiCacheStorageExtraInfo
    ) -> dict[PoolName, list[bool]]:
        return self._each_transfer(self.store_page, transfers)

    @override
    def clear(self) -> None:
        self.blobs.clear()

    @override
    def get_stats(self) -> StorageStats | None:
        if self._counts is None:
            return None
        names = ("stored", "fetched", "missing", "refused", "failed")
        return StorageStats(**{name: self._counts[name] for name in names})

    @override
    def close(self) -> None:
        self.blobs.close()

    def page_name(self, pool: PoolName, page_hash: str) -> str:
        """Return the name under which a page is stored; raise TransferError without its pool."""
        return self._names.name(pool, self._pool(pool), page_hash)

    def has_page(self, pool: PoolName, page_hash: str) -> bool:
        """Return whether a page is there; a store that fails has none."""
        name = self.page_name(pool, page_hash)
        try:
            return self.blobs.exists(name)
        except StorageError as error:
            self._fail("query", error)
            return False

    def store_page(self, pool: PoolName, page_hash: str, slot: int) -> bool:
        """Write the page that begins at a host slot; return whether it is there now.

        Order: reads the host pool when called, on the calling thread.
        """
        name, host_pool = self.page_name(pool, page_hash), self._pool(pool)
        blocks = host_pool.page_blocks(slot)
        reads = tuple(map(tensor_access, blocks))
        host_pool.device.host_access(label=f"store {pool.name}", reads=reads, writes=())
        try:
            if not self.blobs.exists(name):
                self.blobs.put(name, encode_page(name, list(map(_bytes_of, blocks))))
                self._count("stored")
        except StorageError as error:
            self._fail("store", error)
            return False
        return True

    def fetch_page(self, pool: PoolName, page_hash: str, slot: int) -> bool:
        """Read a page into the host slots from ``slot`` on; return whether it arrived.

        Order: writes the host pool before it returns, on the calling thread.
        """
        name, host_pool = self.page_name(pool, page_hash), self._pool(pool)
        blocks = host_pool.page_blocks(slot)
        try:
            stored = self.blobs.get(name)
            if stored is None:
                self._count("missing")
                return False
            size = sum(block.nbytes for block in blocks)
            payload = decode_page(name, stored, payload_bytes=size)
        except StorageError as error:
            self._fail("fetch", error)
            return False
        except PageRefusedError as refusal:
            self._refuse(name, refusal)
            return False
        writes = tuple(map(tensor_access, blocks))
        host_pool.device.host_access(label=f"fetch {pool.name}", reads=(), writes=writes)
        for block in blocks:
            _bytes_of(block)[:] = payload[: block.nbytes]
            payload = payload[block.nbytes :]
        self._count("fetched")
        return True

    def _pool(self, name: PoolName) -> HostKVCache:
        if name not in self.pools:
            known = ", ".join(self.pools) or "none"
            rule = "a pool must be registered with storage"
            raise TransferError(PoolName(name).name, rule, expected=known, got=name)
        return self.pools[name]

    def _run_length(self, pool: PoolName, hashes: Sequence[str]) -> int:
        """Return how many leading pages are there."""
        for number, page_hash in enumerate(hashes):
            if not self.has_page(pool, page_hash):
                return number
        return len(hashes)

    def _usable_prefixes(
        self, transfer: PoolTransfer, hashes: Sequence[str], before: Sequence[str]
    ) -> set[int]:
        """Return the prefixes, in pages, for which a pool has the pages that it needs.

        The pages ``before`` the prefixes count where a window reaches back to them.
        """
        if transfer.hit_policy is PoolHitPolicy.ALL_PAGES:
            return set(range(1, self._run_length(transfer.name, hashes) + 1))
        needed = len(transfer.keys or ()) or 1
        reached = before[len(before) - min(needed - 1, len(before)) :]
        usable, run = set(), 0
        for number, page_hash in enumerate((*reached, *hashes), start=1):
            run = run + 1 if self.has_page(transfer.name, page_hash) else 0
            # Pages fewer than the window are all needed.
            if number > len(reached) and run >= min(needed, number):
                usable.add(number - len(reached))
        return usable

    def _each_transfer(
        self,
        access: Callable[[PoolName, str, int], bool],
        transfers: Sequence[PoolTransfer],
    ) -> dict[PoolName, list[bool]]:
        results = {}
        for transfer in transfers:
            slots = transfer.host_indices
            if slots is None:
                slots = torch.empty(0, dtype=torch.int64)
            results[transfer.name] = self._each_page(
                access, transfer.name, transfer.keys or (), slots
            )
        return results

    def _each_page(
        self,
        access: Callable[[PoolName, str, int], bool],
        pool: PoolName,
        hashes: Sequence[str],
        host_indices: torch.Tensor,
    ) -> list[bool]:
        page_size = self._pool(pool).page_size
        if len(host_indices) != len(hashes) * page_size:
            rule, expected = "every key must have a page of host slots", len(hashes) * page_size
            raise TransferError(pool.name, rule, expected=expected, got=len(host_indices))
        first_slots = host_indices[::page_size].tolist()
        return [access(pool, *page) for page in zip(hashes, first_slots, strict=True)]

    def _fail(self, operation: str, error: StorageError) -> None:
        self._count("failed")
        logger.warning("storage %s failed, the page counts as missing: %s", operation, error)

    def _refuse(self, name: str, refusal: PageRefusedError) -> None:
        """Warn of a page that cannot be trusted and remove it, so that it can be written again."""
        self._count("refused")
        logger.warning("stored page %s is refused and counts as missing: %s", name, refusal)
        try:
            self.blobs.remove(name)
        except StorageError as error:
            self._fail("removal", error)

    def _count(self, what: str) -> None:
        if self._counts is not None:
            self._counts[what] += 1


def _bytes_of(block: torch.Tensor) -> memoryview:
    """Return the memory of a contiguous host tensor."""
    return block.view(-1).view(torch.uint8).numpy().data
