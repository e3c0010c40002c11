"""Transfers between host pools and storage, as storage threads run them."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from assembler.collectives import CacheRanks, CollectiveRole
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.group import PoolTransfer
from assembler.names import ComponentType, PoolHitPolicy, PoolName
from assembler.storage.hooks import NodeBackup, Prefetch
from assembler.storage.interface import HiCacheStorage, HiCacheStorageExtraInfo
from assembler.storage.page_format import is_replicated

logger = logging.getLogger(__name__)

# A thread looks after each batch whether it must stop: a caller waits for one batch at most.
PAGES_PER_BATCH = 16

POOL_OF_COMPONENT: Mapping[ComponentType, PoolName] = {
    ComponentType.SWA: PoolName.SWA,
    ComponentType.MAMBA: PoolName.MAMBA,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefetchOutcome:
    """The end of a prefetch on this rank.

    Attributes:
        page_num: leading pages that arrived in the anchor and in every pool on its slots.
        components: components whose rows for the last of these pages arrived.
        error: what ended it; None for anything that only makes pages missing.
    """

    page_num: int
    components: frozenset[ComponentType]
    error: Exception | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoragePools:
    """The pools whose pages storage keeps.

    Attributes:
        anchor: the pool whose slots are those of the full KV.
        followers: the pools on the anchor's slots.
        components: the pools with slots of their own, by component.
        writes_replicated: whether this rank writes the pages that every rank has in common.
    """

    anchor: HostKVCache
    followers: dict[PoolName, HostKVCache]
    components: dict[ComponentType, HostKVCache]
    writes_replicated: bool

    def is_written(self, name: PoolName) -> bool:
        """Return whether this rank stores the pages of a pool."""
        pools = {PoolName.KV: self.anchor, **self.followers}
        pools |= {POOL_OF_COMPONENT[one]: pool for one, pool in self.components.items()}
        return self.writes_replicated or not is_replicated(pools[name])

    def follower_transfers(self, keys: Sequence[str], slots: torch.Tensor) -> list[PoolTransfer]:
        """Return a transfer for every pool on the anchor's slots."""
        return [
            PoolTransfer(name=name, host_indices=slots, keys=list(keys)) for name in self.followers
        ]

    def trailing_transfer(
        self, component: ComponentType, slots: torch.Tensor, hashes: Sequence[str]
    ) -> PoolTransfer:
        """Return the transfer of a component's slots, which belong to the last of some pages.

        Where there are fewer pages than slots for them, the last slots are used.
        """
        page_size = self.components[component].page_size
        keys = list(hashes[-(len(slots) // page_size) :])
        return PoolTransfer(
            name=POOL_OF_COMPONENT[component],
            host_indices=slots[len(slots) - len(keys) * page_size :],
            keys=keys,
            hit_policy=PoolHitPolicy.TRAILING_PAGES,
        )


class StorageWork:
    """Backups and prefetches over one open backend.

    Args:
        storage: the backend, with every pool registered.
        pools: the pools whose pages it keeps.
        ranks: groups of the prefetch thread.
        least_pages: pages below which a prefetch is not worth it.
    """

    def __init__(
        self,
        storage: HiCacheStorage,
        *,
        pools: StoragePools,
        ranks: CacheRanks,
        least_pages: int,
    ) -> None:
        self.pools = pools
        self._storage = storage
        self._ranks = ranks
        self._least_pages = least_pages

    def restorable_pages(
        self,
        keys: Sequence[str],
        components: dict[ComponentType, torch.Tensor],
        *,
        prefix_keys: tuple[str, ...],
        ranks: CacheRanks,
        role: CollectiveRole,
    ) -> int:
        """Return the longest prefix, in pages, that every rank can restore in every pool."""
        transfers = self.pools.follower_transfers((), torch.empty(0, dtype=torch.int64))
        transfers += [
            self.pools.trailing_transfer(component, slots, (*prefix_keys, *keys))
            for component, slots in components.items()
        ]
        found = self._storage.batch_exists_v2(keys, transfers, _info(prefix_keys))
        usable = set(found.restorable_pages)
        flags = [int(page_num in usable) for page_num in range(1, len(keys) + 1)]
        agreed = ranks.minimum(flags, role=role)
        return max((page_num for page_num, flag in enumerate(agreed, start=1) if flag), default=0)

    def prefetch(self, prefetch: Prefetch, *, must_stop: Callable[[], bool]) -> PrefetchOutcome:
        """Fetch what storage has of a request's pages, until it must stop."""
        components = dict(prefetch.host)
        del components[ComponentType.FULL]
        hit = self.restorable_pages(
            prefetch.keys,
            components,
            prefix_keys=prefetch.prefix_keys,
            ranks=self._ranks,
            role=CollectiveRole.PREFETCH_HITS,
        )
        if hit < self._least_pages:
            return PrefetchOutcome(page_num=0, components=frozenset(), error=None)
        page_num = self._fetch_pages(prefetch, hit, must_stop)
        arrived = frozenset[ComponentType]()
        if page_num == hit:
            hashes = (*prefetch.prefix_keys, *prefetch.keys[:hit])
            arrived = frozenset(self._fetch_components(components, hashes))
        return PrefetchOutcome(page_num=page_num, components=arrived, error=None)

    def back_up(self, backup: NodeBackup, *, must_stop: Callable[[], bool]) -> None:
        """Store the pages of a node, those of the anchor last, until it must stop.

        A page that cannot be stored ends it: the pages behind it would never be a hit.
        """
        for component, slots in backup.host.items():
            if component is not ComponentType.FULL and len(slots):
                self._store([self.pools.trailing_transfer(component, slots, backup.keys)])
        full = backup.host[ComponentType.FULL]
        for keys, slots in self._batches(backup.keys, full):
            if must_stop():
                return
            transfers = self.pools.follower_transfers(keys, slots)
            anchor = PoolTransfer(name=PoolName.KV, host_indices=slots, keys=list(keys))
            if not self._store([*transfers, anchor]):
                logger.warning("backup of node %d to storage ended early", backup.node_id)
                return

    def _fetch_pages(self, prefetch: Prefetch, hit: int, must_stop: Callable[[], bool]) -> int:
        """Fetch the anchor and the pools on its slots; return the leading pages that arrived."""
        page_num, info = 0, _info(prefetch.prefix_keys)
        full = prefetch.host[ComponentType.FULL]
        for keys, slots in self._batches(prefetch.keys[:hit], full):
            if must_stop():
                break
            arrived = [self._storage.batch_get_v1(keys, slots, info)]
            if self.pools.followers:
                transfers = self.pools.follower_transfers(keys, slots)
                arrived += self._storage.batch_get_v2(transfers, info).values()
            whole = [all(pages) for pages in zip(*arrived, strict=True)]
            page_num += whole.index(False) if False in whole else len(whole)
            if not all(whole):
                break
        return page_num

    def _fetch_components(
        self, components: dict[ComponentType, torch.Tensor], hashes: Sequence[str]
    ) -> Iterator[ComponentType]:
        """Yield the components of which every page arrived."""
        for component, slots in components.items():
            transfer = self.pools.trailing_transfer(component, slots, hashes)
            arrived = self._storage.batch_get_v2([transfer], _info(()))
            if all(arrived[transfer.name]):
                yield component

    def _store(self, transfers: Sequence[PoolTransfer]) -> bool:
        """Store pages of the pools that this rank writes; return whether all are there."""
        own = [transfer for transfer in transfers if self.pools.is_written(transfer.name)]
        stored = self._storage.batch_set_v2(own, _info(()))
        return all(all(pages) for pages in stored.values())

    def _batches(
        self, keys: Sequence[str], slots: torch.Tensor
    ) -> Iterator[tuple[Sequence[str], torch.Tensor]]:
        """Yield keys and host slots of some pages at a time."""
        page_size = self.pools.anchor.page_size
        for start in range(0, len(keys), PAGES_PER_BATCH):
            part = keys[start : start + PAGES_PER_BATCH]
            yield part, slots[start * page_size : (start + len(part)) * page_size]


def _info(prefix_keys: tuple[str, ...]) -> HiCacheStorageExtraInfo:
    return HiCacheStorageExtraInfo(prefix_keys=prefix_keys)
