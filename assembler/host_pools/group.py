"""Several host pools moved as one: the anchor owns the slot numbers, sidecars follow.

Source: sglang 0.5.12 ``memory_pool_host.py`` (``PoolEntry``, ``HostPoolGroup``) and
``hicache_storage.py`` (``PoolTransfer``, ``SidecarPoolSpec``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from assembler.errors import AssemblyError, TransferError
from assembler.host_pools.base import DevicePool, HostKVCache
from assembler.names import IoBackend, PoolHitPolicy, PoolName

LayerMapper: TypeAlias = Callable[[int], int | None]
AllocFn: TypeAlias = Callable[[int], torch.Tensor | None]
FreeFn: TypeAlias = Callable[[torch.Tensor], object]
EvictFn: TypeAlias = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class PoolEntry:
    """One host pool of a group, the device pool it mirrors, and the functions for its slots.

    Attributes:
        name: the pool's name, unique in its group.
        host_pool: where the rows are kept.
        device_pool: where the rows come from and go to.
        layer_mapper: stage-local layer to layer index in the pool; None where it has no layer.
        is_primary_index_anchor: whether this pool owns the group's slot numbers.
        host_evict_fn: called once, with the whole number of slots, when the host pool is full.
        device_evict_fn: the same when the device pool is full.
        device_alloc_fn: takes device slots for a load; None when another pool's are used.
        device_free_fn: gives them back.
    """

    name: PoolName
    host_pool: HostKVCache
    device_pool: DevicePool
    layer_mapper: LayerMapper
    is_primary_index_anchor: bool = False
    host_evict_fn: EvictFn | None = None
    device_evict_fn: EvictFn | None = None
    device_alloc_fn: AllocFn | None = None
    device_free_fn: FreeFn | None = None


@dataclass(slots=True, eq=False)
class PoolTransfer:
    """The part of one operation that moves a sidecar. Controllers write missing indices into it.

    Attributes:
        name: the pool.
        host_indices: ``(slots,) int64`` host slots, or None until resolved.
        device_indices: ``(slots,) int64`` device slots, or None until resolved.
        keys: storage keys of the pages, when storage takes part.
        hit_policy: which pages of a prefix the pool needs.
        nodes_to_load: the cache nodes that the indices belong to.
        indices_from_pool: take both index tensors from this pool instead of allocating.
    """

    name: PoolName
    host_indices: torch.Tensor | None = None
    device_indices: torch.Tensor | None = None
    keys: list[str] | None = None
    hit_policy: PoolHitPolicy = PoolHitPolicy.ALL_PAGES
    nodes_to_load: list[object] | None = None
    indices_from_pool: PoolName | None = None

    def resolved(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return host and device indices.

        Raises:
            TransferError: one of them is still missing.
        """
        if self.host_indices is None or self.device_indices is None:
            present = [
                side
                for side, indices in (("host", self.host_indices), ("device", self.device_indices))
                if indices is not None
            ]
            raise TransferError(
                PoolName(self.name).name,
                "a transfer must be resolved before it moves",
                expected="host and device indices",
                got=" and ".join(present) or "none",
            )
        return self.host_indices, self.device_indices


@dataclass(frozen=True, slots=True)
class SidecarPoolSpec:
    """A pool that every operation of a cache moves along with the pool whose indices it shares."""

    pool_name: PoolName
    indices_from_pool: PoolName
    hit_policy: PoolHitPolicy = PoolHitPolicy.ALL_PAGES


class HostPoolGroup:
    """Host pools that are backed up and loaded together.

    ``alloc``, ``free`` and ``available_size`` are the anchor's: its slot numbers are the group's.

    Attributes:
        entries: in transfer order.
        entry_map: entries by name.
        anchor_entry: the one whose pool owns the slot numbers.
        layout: the anchor's host layout; decides how indices are prepared.
        page_size: tokens of a page.
        size: slots of the anchor.
    """

    def __init__(self, entries: Sequence[PoolEntry]) -> None:
        """Group ``entries``.

        Raises:
            AssemblyError: there is no entry, a name occurs twice, or not exactly one is the anchor.
        """
        names = [entry.name.name for entry in entries]
        anchors = [entry for entry in entries if entry.is_primary_index_anchor]
        if not entries:
            raise AssemblyError(
                "group", "a group must have a pool", expected="one entry or more", got="none"
            )
        if len(set(names)) != len(names):
            raise AssemblyError(
                "group", "a pool name must be unique", expected="distinct names", got=names
            )
        if len(anchors) != 1:
            raise AssemblyError(
                "group",
                "one pool must own the slot numbers",
                expected="exactly one anchor",
                got=[entry.name.name for entry in anchors] or "none",
            )
        self.entries = tuple(entries)
        self.entry_map = {entry.name: entry for entry in entries}
        self.anchor_entry = anchors[0]
        self.layout = anchors[0].host_pool.layout
        self.page_size = anchors[0].host_pool.page_size
        self.size = anchors[0].host_pool.size

    def entry(self, name: PoolName) -> PoolEntry:
        """Return the entry of a pool.

        Raises:
            TransferError: the group has no such pool.
        """
        if name not in self.entry_map:
            raise TransferError(
                str(name).upper(),
                "the group must have the pool",
                expected=f"one of {', '.join(self.entry_map)}",
                got=name,
            )
        return self.entry_map[name]

    def get_pool(self, name: PoolName) -> HostKVCache:
        """Return the host pool of a name; raises TransferError when the group has none."""
        return self.entry(name).host_pool

    def alloc(self, need: int) -> torch.Tensor | None:
        """Take ``need`` anchor slots, or return None when there are too few."""
        return self.anchor_entry.host_pool.alloc(need)

    def free(self, indices: torch.Tensor) -> int:
        """Give anchor slots back; returns how many."""
        return self.anchor_entry.host_pool.free(indices)

    def available_size(self) -> int:
        """Return how many anchor slots are free."""
        return self.anchor_entry.host_pool.available_size()

    def clear(self) -> None:
        """Free every slot of every host pool."""
        for entry in self.entries:
            entry.host_pool.clear()

    def load_to_device_per_layer(
        self,
        *,
        host_indices: torch.Tensor,
        device_indices: torch.Tensor,
        layer_id: int,
        io_backend: IoBackend,
        pool_transfers: Sequence[PoolTransfer],
    ) -> None:
        """Copy one stage-local layer of the anchor and of every transfer to the device.

        Pools without that layer are left out, and so is the anchor when it has no indices.

        Raises:
            TransferError: a transfer is not resolved or names a pool the group does not have.

        Order: launched on the current stream.
        """
        moves = self._moves(host_indices, device_indices, pool_transfers)
        for entry, host_side, device_side in moves:
            local_layer = entry.layer_mapper(layer_id)
            if local_layer is not None:
                entry.host_pool.load_to_device_per_layer(
                    device_pool=entry.device_pool,
                    host_indices=host_side,
                    device_indices=device_side,
                    layer_id=local_layer,
                    io_backend=io_backend,
                )

    def expect_load(
        self,
        *,
        host_indices: torch.Tensor,
        device_indices: torch.Tensor,
        io_backend: IoBackend,
        pool_transfers: Sequence[PoolTransfer],
    ) -> None:
        """Announce to every pool that its layers will be loaded in order with these slots.

        See :meth:`assembler.host_pools.base.HostKVCache.expect_load`.

        Raises:
            TransferError: a transfer is not resolved or names a pool the group does not have.
        """
        moves = self._moves(host_indices, device_indices, pool_transfers)
        for entry, host_side, device_side in moves:
            entry.host_pool.expect_load(
                device_pool=entry.device_pool,
                host_indices=host_side,
                device_indices=device_side,
                io_backend=io_backend,
            )

    def backup_from_device_all_layer(
        self,
        *,
        host_indices: torch.Tensor,
        device_indices: torch.Tensor,
        io_backend: IoBackend,
        pool_transfers: Sequence[PoolTransfer],
    ) -> None:
        """Copy all layers of the anchor and of every transfer to the host.

        Raises:
            TransferError: a transfer is not resolved or names a pool the group does not have.

        Order: launched on the current stream.
        """
        moves = self._moves(host_indices, device_indices, pool_transfers)
        for entry, host_side, device_side in moves:
            entry.host_pool.backup_from_device_all_layer(
                device_pool=entry.device_pool,
                host_indices=host_side,
                device_indices=device_side,
                io_backend=io_backend,
            )

    def _moves(
        self,
        host_indices: torch.Tensor,
        device_indices: torch.Tensor,
        pool_transfers: Sequence[PoolTransfer],
    ) -> list[tuple[PoolEntry, torch.Tensor, torch.Tensor]]:
        """Pair entries with their indices: the anchor first, unless it has nothing to move."""
        moves = [(self.anchor_entry, host_indices, device_indices)] if len(host_indices) else []
        for transfer in pool_transfers:
            moves.append((self.entry(transfer.name), *transfer.resolved()))
        return moves
