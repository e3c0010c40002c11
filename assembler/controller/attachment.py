"""Attachment of a storage tier to a controller, at its construction or later."""

from collections.abc import Mapping

from assembler.collectives import CacheRanks
from assembler.controller.prefetch_policy import PrefetchOptions
from assembler.controller.storage_tier import CAPACITY_SHARE, StorageTier, TierSettings
from assembler.controller.storage_work import POOL_OF_COMPONENT, StoragePools
from assembler.device_pools.base import KVCache
from assembler.errors import AssemblyError
from assembler.groups import ProcessGroup
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.group import HostPoolGroup
from assembler.names import PoolName
from assembler.storage import HiCacheStorageConfig, open_storage


class StorageAttachment:
    """The part of a controller that has, or has not, a storage tier.

    Attributes:
        mem_pool_device: the anchor's device pool.
        mem_pool_host: the host pools.
        tp_group: the ranks that keep the same cache.
        attn_cp_group: attention context-parallel ranks.
        attn_tp_group: attention tensor-parallel ranks.
        pp_group: ranks of the same place in every pipeline stage.
        pp_rank: pipeline stage, from 0.
        pp_size: number of pipeline stages.
        enable_storage_metrics: whether storage counts what it does.
        storage_backend: name of the attached backend; None without one.
        prefetch_threshold: tokens below which nothing is fetched.
        model_name: goes into the names of pages.
        storage_backend_extra_config: options of prefetching and of the backend.
        storage_tier: what the cache stores pages in and fetches them from; None without a backend.
        ranks: the groups over which the ranks of a cache agree.
        draft_host_pool: a draft model's rows on the anchor's slots; None without a draft.
    """

    mem_pool_device: KVCache
    mem_pool_host: HostPoolGroup
    tp_group: ProcessGroup | None
    attn_cp_group: ProcessGroup | None
    attn_tp_group: ProcessGroup | None
    pp_group: ProcessGroup | None
    pp_rank: int
    pp_size: int
    enable_storage_metrics: bool
    storage_backend: str | None
    prefetch_threshold: int
    model_name: str | None
    storage_backend_extra_config: Mapping[str, object] | None
    storage_tier: StorageTier | None
    ranks: CacheRanks
    draft_host_pool: HostKVCache | None

    def _open_without_storage(self) -> None:
        self.storage_backend = None
        self.storage_tier = None
        self.draft_host_pool = None
        self.ranks = CacheRanks.of(
            tp_group=self.tp_group,
            attn_cp_group=self.attn_cp_group,
            attn_tp_group=self.attn_tp_group,
            pp_group=self.pp_group,
        )

    def attach_storage_backend(
        self,
        storage_backend: str,
        prefetch_threshold: int = 256,
        model_name: str | None = None,
        storage_backend_extra_config: Mapping[str, object] | None = None,
    ) -> None:
        """Open a backend and use it from now on; nothing changes when that fails.

        Args:
            storage_backend: its name.
            prefetch_threshold: tokens below which nothing is fetched.
            model_name: goes into the names of pages.
            storage_backend_extra_config: options of prefetching and of the backend.

        Raises:
            AssemblyError: a backend is attached, the model has no name, or the backend or an option
                is unknown.
            StorageError: the backend cannot be opened.
        """
        before = (self.prefetch_threshold, self.model_name)
        self.prefetch_threshold, self.model_name = prefetch_threshold, model_name
        try:
            self._attach_storage(storage_backend, storage_backend_extra_config)
        except Exception:
            self.prefetch_threshold, self.model_name = before
            raise

    def _attach_storage(self, name: str, extra_config: Mapping[str, object] | None) -> None:
        """Open a backend for the model and threshold that are set."""
        if self.storage_tier is not None:
            rule = "must be detached first"
            raise AssemblyError("storage", rule, expected="none", got=self.storage_backend)
        if not self.model_name:
            rule = "needs the model's name: pages of two models must not be mixed"
            raise AssemblyError("storage", rule, expected="model_name", got=repr(self.model_name))
        options, others = PrefetchOptions.split(extra_config or {})
        storage = open_storage(name, self._storage_config(self.model_name, others))
        for entry in self.mem_pool_host.entries:
            storage.register_mem_host_pool_v2(entry.host_pool, entry.name)
        storage.register_mem_pool_host(self.mem_pool_host.anchor_entry.host_pool)
        host, device = self.mem_pool_host, self.mem_pool_device
        tier = StorageTier(
            TierSettings(
                storage=storage,
                device=device.device,
                ranks=self.ranks,
                pools=self._storage_pools(),
                prefetch_threshold=self.prefetch_threshold,
                capacity=max(0, int(CAPACITY_SHARE * (host.size - device.size))),
                options=options,
            )
        )
        if self.draft_host_pool is not None:
            tier.add_follower(PoolName.DRAFT, self.draft_host_pool)
        self.storage_tier, self.storage_backend = tier, name
        self.storage_backend_extra_config = extra_config

    def detach_storage_backend(self) -> None:
        """End backups, prefetches and their threads, and close the backend; again does nothing."""
        tier, self.storage_tier = self.storage_tier, None
        self.storage_backend = None
        if tier is not None:
            tier.close()

    def _storage_config(
        self, model_name: str, options: Mapping[str, object]
    ) -> HiCacheStorageConfig:
        shards = self.tp_group if self.attn_tp_group is None else self.attn_tp_group
        cp = self.attn_cp_group
        return HiCacheStorageConfig(
            tp_rank=self._shards_rank(),
            tp_size=1 if shards is None else shards.size(),
            pp_rank=self.pp_rank,
            pp_size=self.pp_size,
            attn_cp_rank=0 if cp is None else cp.rank(),
            attn_cp_size=1 if cp is None else cp.size(),
            model_name=model_name,
            enable_storage_metrics=self.enable_storage_metrics,
            extra_config=options,
        )

    def _storage_pools(self) -> StoragePools:
        """Return the pools by whose slots they are on."""
        pools = {entry.name: entry.host_pool for entry in self.mem_pool_host.entries}
        anchor = pools.pop(self.mem_pool_host.anchor_entry.name)
        own = {component: name for component, name in POOL_OF_COMPONENT.items() if name in pools}
        components = {component: pools.pop(name) for component, name in own.items()}
        return StoragePools(
            anchor=anchor,
            followers=pools,
            components=components,
            writes_replicated=self._shards_rank() == 0,
        )

    def _shards_rank(self) -> int:
        shards = self.tp_group if self.attn_tp_group is None else self.attn_tp_group
        return 0 if shards is None else shards.rank()
