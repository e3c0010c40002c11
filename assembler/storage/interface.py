"""The interface of a storage backend towards the cache controller.

Source: sglang 0.5.12 ``hicache_storage.py:132-308``. Its copies through tensors (``get``, ``set``)
are left out: the controller here always names host slots, which the backend reads and writes.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from assembler.host_pools.base import HostKVCache
from assembler.host_pools.group import PoolTransfer
from assembler.names import PoolName


@dataclass(frozen=True, slots=True, kw_only=True)
class HiCacheStorageConfig:
    """Settings that a backend is opened with.

    Attributes:
        tp_rank: place among the ranks that share a layer; those of attention where it has its own.
        tp_size: number of those ranks.
        pp_rank: pipeline stage.
        pp_size: number of pipeline stages.
        attn_cp_rank: place among the attention context-parallel ranks.
        attn_cp_size: number of those ranks.
        model_name: name of the model whose pages these are.
        enable_storage_metrics: whether :meth:`HiCacheStorage.get_stats` counts.
        extra_config: options of the backend itself, by name.
    """

    tp_rank: int
    tp_size: int
    pp_rank: int
    pp_size: int
    attn_cp_rank: int
    attn_cp_size: int
    model_name: str
    enable_storage_metrics: bool
    extra_config: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class HiCacheStorageExtraInfo:
    """Facts beside the keys: the hashes of the pages before the first key, in order."""

    prefix_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolTransferResult:
    """Answer to a hit query over several pools.

    Attributes:
        kv_hit_pages: leading pages that the anchor has.
        extra_pool_hit_pages: by pool, the largest prefix in pages, at most the anchor's, for which
            the pool has the pages that it needs.
        restorable_pages: prefixes, in pages, for which every pool has the pages that it needs;
            ascending, without 0.
    """

    kv_hit_pages: int
    extra_pool_hit_pages: Mapping[PoolName, int]
    restorable_pages: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageStats:
    """Counts of a backend since it was opened.

    Attributes:
        stored: pages written; those already there are not counted.
        fetched: pages read into host memory.
        missing: pages asked for that were not there.
        refused: pages that were there and could not be trusted.
        failed: accesses that ended in an error.
    """

    stored: int
    fetched: int
    missing: int
    refused: int
    failed: int


class HiCacheStorage(ABC):
    """A store of pages, which may be lost at any time.

    A page that cannot be read or written is missing: no method raises for that, a warning says why.
    Wrong use raises.

    Keys are the hashes of :func:`assembler.storage.page_hash.page_hashes`; a backend adds what sets
    pools, formats, models and ranks apart. ``host_indices`` are ``(pages * page_size,) int64`` host
    slots, whole pages.
    """

    @abstractmethod
    def register_mem_pool_host(self, mem_pool_host: HostKVCache) -> None:
        """Use a host pool as the anchor."""

    @abstractmethod
    def register_mem_host_pool_v2(self, host_pool: HostKVCache, host_pool_name: PoolName) -> None:
        """Use a host pool for transfers of a name."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Return whether the anchor's page is there."""

    @abstractmethod
    def batch_exists(self, keys: Sequence[str], extra_info: HiCacheStorageExtraInfo) -> int:
        """Return how many leading pages of the anchor are there."""

    @abstractmethod
    def batch_get_v1(
        self,
        keys: Sequence[str],
        host_indices: torch.Tensor,
        extra_info: HiCacheStorageExtraInfo,
    ) -> list[bool]:
        """Read pages of the anchor into host slots; return which arrived.

        Raises:
            TransferError: the slots are not a page for each key.
        """

    @abstractmethod
    def batch_set_v1(
        self,
        keys: Sequence[str],
        host_indices: torch.Tensor,
        extra_info: HiCacheStorageExtraInfo,
    ) -> list[bool]:
        """Write pages of the anchor from host slots; return which are there now.

        Raises:
            TransferError: the slots are not a page for each key.
        """

    @abstractmethod
    def batch_exists_v2(
        self,
        keys: Sequence[str],
        pool_transfers: Sequence[PoolTransfer],
        extra_info: HiCacheStorageExtraInfo,
    ) -> PoolTransferResult:
        """Return which prefixes of ``keys`` all pools have, by the hit policy of each transfer.

        A transfer needs every page of a prefix, or its last ones: as many as it has keys, else one.

        Raises:
            TransferError: a pool is not registered.
        """

    @abstractmethod
    def batch_get_v2(
        self, transfers: Sequence[PoolTransfer], extra_info: HiCacheStorageExtraInfo
    ) -> dict[PoolName, list[bool]]:
        """Read the pages of each transfer's keys into its host slots; return which arrived.

        Raises:
            TransferError: a pool is not registered, or the slots are not a page for each key.
        """

    @abstractmethod
    def batch_set_v2(
        self, transfers: Sequence[PoolTransfer], extra_info: HiCacheStorageExtraInfo
    ) -> dict[PoolName, list[bool]]:
        """Write the pages of each transfer's keys from its host slots; return which are there now.

        Raises:
            TransferError: a pool is not registered, or the slots are not a page for each key.
        """

    @abstractmethod
    def clear(self) -> None:
        """Remove every page, those of other models and ranks included."""

    @abstractmethod
    def get_stats(self) -> StorageStats | None:
        """Return the counts, or None where metrics are off."""

    @abstractmethod
    def close(self) -> None:
        """Give resources back; pages stay."""
