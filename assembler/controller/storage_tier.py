"""The storage tier of a controller: its threads, and what a cache asks of it."""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from typing_extensions import override

from assembler.collectives import CacheRanks, CollectiveRole
from assembler.controller.prefetch_policy import PrefetchOptions
from assembler.controller.storage_work import PrefetchOutcome, StoragePools, StorageWork
from assembler.device.base import Device
from assembler.device.host_threads.thread_group import (
    HostThread,
    ThreadFlag,
    ThreadGroup,
    ThreadQueue,
)
from assembler.errors import StorageError
from assembler.host_pools.base import HostKVCache
from assembler.names import ComponentType, PoolName
from assembler.storage.hooks import NodeBackup, Prefetch, PrefetchResult, StorageHooks
from assembler.storage.interface import HiCacheStorage
from assembler.storage.page_hash import page_hashes

logger = logging.getLogger(__name__)

CAPACITY_SHARE = 0.8
"""Share of the host slots beyond the device's that prefetches may fill at a time."""

_NAMESPACE = b"kv cache namespace\0"
_NOTHING = PrefetchResult(page_num=0, components=frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSettings:
    """Settings of a storage tier.

    Attributes:
        storage: the open backend.
        device: starts the host threads.
        ranks: the groups that keep the same cache.
        pools: the pools whose pages are kept.
        prefetch_threshold: tokens below which nothing is fetched, at least a page.
        capacity: tokens that prefetches may fill at a time.
        options: when a prefetch ends.
    """

    storage: HiCacheStorage
    device: Device
    ranks: CacheRanks
    pools: StoragePools
    prefetch_threshold: int
    capacity: int
    options: PrefetchOptions


@dataclass(slots=True, kw_only=True, eq=False)
class _OngoingPrefetch:
    """A prefetch that a thread works on; ``outcome`` once this rank is done."""

    prefetch: Prefetch
    started_at: float
    stop: ThreadFlag
    done: ThreadQueue[PrefetchOutcome]
    token_num: int
    outcome: PrefetchOutcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _StorageThreads:
    """The running threads with their queues; ``stop`` ends what they work on."""

    group: ThreadGroup
    prefetches: ThreadQueue[_OngoingPrefetch]
    backups: ThreadQueue[NodeBackup]
    ended_backups: ThreadQueue[int]
    stop: ThreadFlag
    running: list[HostThread]

    def raise_error(self) -> None:
        """Raise what a thread raised that has ended; none ends before its queue is closed."""
        for thread in self.running:
            if thread.is_finished:
                thread.join()


class StorageTier(StorageHooks):
    """Prefetches and backups of a cache, each kind on a host thread of its own.

    The threads start with the first prefetch or backup. All methods are called from one thread, on
    every rank in the same order.

    Attributes:
        storage: the open backend.
        prefetch_threshold: tokens below which nothing is fetched.
        prefetch_capacity_limit: tokens that prefetches may fill at a time.
        prefetch_tokens_occupied: tokens that they fill now.
        options: when a prefetch ends.
        clock: returns seconds; what a time-out is measured by.
    """

    def __init__(self, settings: TierSettings) -> None:
        page_size = settings.pools.anchor.page_size
        self.storage = settings.storage
        self.prefetch_threshold = max(settings.prefetch_threshold, page_size)
        self.prefetch_capacity_limit = settings.capacity
        self.prefetch_tokens_occupied = 0
        self.options = settings.options
        self.clock: Callable[[], float] = time.monotonic
        self._device = settings.device
        self._page_size = page_size
        # One set of groups a thread: collectives of two threads may come in another order on
        # another rank.
        self._ranks = settings.ranks.clone("storage")
        self._thread_ranks = settings.ranks.clone("prefetch")
        self._work = StorageWork(
            settings.storage,
            pools=settings.pools,
            ranks=self._thread_ranks,
            least_pages=-(-self.prefetch_threshold // page_size),
        )
        self._threads: _StorageThreads | None = None
        self._prefetches: dict[str, _OngoingPrefetch] = {}
        self._ended_backups: list[int] = []
        self._backup_num = 0

    @override
    def page_keys(
        self, tokens: Sequence[int], *, prior: str | None, namespace: str | None
    ) -> list[str]:
        if prior is None and namespace is not None:
            prior = hashlib.sha256(_NAMESPACE + namespace.encode()).hexdigest()
        return page_hashes(tokens, page_size=self._page_size, last_hash=prior)

    @override
    def hit_pages(self, keys: Sequence[str]) -> int:
        return self._work.restorable_pages(
            keys, {}, prefix_keys=(), ranks=self._ranks, role=CollectiveRole.HIT_PAGES
        )

    @override
    def start_backup(self, backup: NodeBackup) -> None:
        self._started().backups.put(backup)
        self._backup_num += 1

    @override
    def finished_backups(self) -> list[int]:
        """Return the nodes whose backup ended, stored or not, since the last call.

        Raises:
            Exception: a thread had died; its error.
        """
        self._poll_backups()
        # Backups end in the same order on every rank, but not at the same time.
        role = CollectiveRole.BACKUP_ENDS
        (number,) = self._ranks.minimum([len(self._ended_backups)], role=role)
        ended, self._ended_backups = self._ended_backups[:number], self._ended_backups[number:]
        self._backup_num -= number
        return ended

    @property
    def is_idle(self) -> bool:
        """True when every backup and prefetch has ended on this rank, asked for or not.

        Raises:
            Exception: a thread had died; its error.
        """
        self._poll_backups()
        for ongoing in self._prefetches.values():
            ongoing.outcome = ongoing.outcome or ongoing.done.poll()
        is_fetched = all(ongoing.outcome is not None for ongoing in self._prefetches.values())
        return is_fetched and len(self._ended_backups) == self._backup_num

    @override
    def accepts(self, request_id: str, token_num: int) -> bool:
        if self.is_fetching(request_id):
            rule, expected = "must be unique", "no prefetch under way"
            raise StorageError(f"request {request_id}", rule, expected=expected, got="one")
        return token_num >= self.prefetch_threshold and not self.is_rate_limited

    @override
    def is_fetching(self, request_id: str) -> bool:
        return request_id in self._prefetches

    @override
    def start_prefetch(self, prefetch: Prefetch) -> bool:
        """Start fetching pages; return False when there are too few, or too many are under way.

        Raises:
            StorageError: a prefetch of that request is under way.
        """
        token_num = len(prefetch.keys) * self._page_size
        if not self.accepts(prefetch.request_id, token_num):
            return False
        threads = self._started()
        ongoing = _OngoingPrefetch(
            prefetch=prefetch,
            started_at=self.clock(),
            stop=threads.group.flag(name=f"stop {prefetch.request_id}"),
            done=threads.group.queue(name=f"end of {prefetch.request_id}"),
            token_num=token_num,
        )
        self._prefetches[prefetch.request_id] = ongoing
        self.prefetch_tokens_occupied += token_num
        threads.prefetches.put(ongoing)
        return True

    @property
    def is_rate_limited(self) -> bool:
        """True while prefetches fill as many tokens as they may."""
        return self.prefetch_tokens_occupied >= self.prefetch_capacity_limit

    @override
    def finish_prefetch(self, request_id: str, *, abort: bool) -> PrefetchResult | None:
        """Return what a prefetch brought, or None while the tier's policy lets it go on.

        Waits for the batch of pages that is being read, and for the other ranks.

        Raises:
            StorageError: no prefetch of the request is under way.
            CollectiveError: the ranks could not agree.
            Exception: a thread had died, or the prefetch ended with an error.
        """
        ongoing = self._ongoing(request_id)
        ongoing.outcome = ongoing.outcome or ongoing.done.poll()
        may_end = abort or self.options.may_end(
            is_over=ongoing.outcome is not None,
            seconds=self.clock() - ongoing.started_at,
            token_num=ongoing.token_num,
        )
        role = CollectiveRole.PREFETCH_END
        if self._ranks.minimum([int(may_end)], role=role) == [0]:
            assert self._threads is not None, "a prefetch is under way"
            self._threads.raise_error()
            return None
        ongoing.stop.set()
        outcome = ongoing.outcome or ongoing.done.get()
        assert outcome is not None, "a queue that nobody closes gives an item"
        self._forget(request_id)
        if outcome.error is not None:
            raise outcome.error
        return self._agreed(outcome)

    @override
    def reset(self) -> None:
        """End every backup and prefetch; no thread uses a host slot afterwards.

        Raises:
            Exception: a thread had died; its error.
        """
        threads, self._threads = self._threads, None
        for request_id in list(self._prefetches):
            self._prefetches[request_id].stop.set()
            self._forget(request_id)
        self._ended_backups.clear()
        self._backup_num = 0
        if threads is not None:
            threads.stop.set()
            threads.prefetches.close()
            threads.backups.close()
            # Waits for both threads and raises what one of them raised.
            threads.group.__exit__(None, None, None)

    def close(self) -> None:
        """End every operation and the threads, and close the backend."""
        try:
            self.reset()
        finally:
            self.storage.close()

    def add_follower(self, name: PoolName, pool: HostKVCache) -> None:
        """Keep the pages of one more pool on the anchor's slots.

        Raises:
            StorageError: pages are being moved.
        """
        if self._threads is not None:
            rule, expected = "must be added before pages move", "no thread"
            raise StorageError(f"pool {name.name}", rule, expected=expected, got="running threads")
        self.storage.register_mem_host_pool_v2(pool, name)
        self._work.pools.followers[name] = pool

    def _started(self) -> _StorageThreads:
        """Return the threads, which start now where none run."""
        if self._threads is None:
            group = self._device.threads()
            group.__enter__()
            self._threads = threads = _StorageThreads(
                group=group,
                prefetches=group.queue(name="prefetch"),
                backups=group.queue(name="backup"),
                ended_backups=group.queue(name="ended backups"),
                stop=group.flag(name="stop storage"),
                running=[],
            )
            for work, name in ((self._run_prefetches, "prefetch"), (self._run_backups, "backup")):
                threads.running.append(group.start(partial(work, threads), name=name))
        return self._threads

    def _run_prefetches(self, threads: _StorageThreads) -> None:
        """Work of the thread ``prefetch``."""
        while (ongoing := threads.prefetches.get()) is not None:
            if threads.stop.is_set():
                continue
            try:
                outcome = self._work.prefetch(ongoing.prefetch, must_stop=ongoing.stop.is_set)
            except Exception as error:
                logger.exception("prefetch of %s failed", ongoing.prefetch.request_id)
                outcome = PrefetchOutcome(page_num=0, components=frozenset(), error=error)
            ongoing.done.put(outcome)

    def _run_backups(self, threads: _StorageThreads) -> None:
        """Work of the thread ``backup``."""
        while (backup := threads.backups.get()) is not None:
            if threads.stop.is_set():
                continue
            try:
                self._work.back_up(backup, must_stop=threads.stop.is_set)
            except Exception:
                logger.exception("backup of node %d to storage failed", backup.node_id)
            threads.ended_backups.put(backup.node_id)

    def _poll_backups(self) -> None:
        """Take note of the backups that ended on this rank."""
        if self._threads is not None:
            self._threads.raise_error()
            while (node_id := self._threads.ended_backups.poll()) is not None:
                self._ended_backups.append(node_id)

    def _agreed(self, outcome: PrefetchOutcome) -> PrefetchResult:
        """Return what every rank has."""
        possible = sorted(self._work.pools.components)
        flags = [int(component in outcome.components) for component in possible]
        role = CollectiveRole.PREFETCH_PAGES
        page_num, *agreed = self._ranks.minimum([outcome.page_num, *flags], role=role)
        if page_num == 0:
            return _NOTHING
        components = (one for one, flag in zip(possible, agreed, strict=True) if flag)
        return PrefetchResult(page_num=page_num, components=frozenset[ComponentType](components))

    def _ongoing(self, request_id: str) -> _OngoingPrefetch:
        if request_id not in self._prefetches:
            rule = "must have a prefetch under way"
            raise StorageError(f"request {request_id}", rule, expected="one", got="none")
        return self._prefetches[request_id]

    def _forget(self, request_id: str) -> None:
        self.prefetch_tokens_occupied -= self._prefetches.pop(request_id).token_num
