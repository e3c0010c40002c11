"""Resolution of transfers that lack indices: all of their slots are taken, or none."""

from collections.abc import Sequence

import torch

from assembler.errors import TransferError
from assembler.host_pools.group import (
    AllocFn,
    EvictFn,
    FreeFn,
    HostPoolGroup,
    PoolEntry,
    PoolTransfer,
)
from assembler.names import Direction, PoolName


class Grant:
    """The slots one operation took, so that a failure can give back exactly those."""

    def __init__(self) -> None:
        self._taken: list[tuple[FreeFn, torch.Tensor]] = []
        self._filled: list[tuple[PoolTransfer, torch.Tensor | None, torch.Tensor | None]] = []

    def take(
        self, *, need: int, alloc: AllocFn, free: FreeFn, evict: EvictFn | None
    ) -> torch.Tensor | None:
        """Allocate ``need`` slots, after one eviction of ``need`` slots when there are too few.

        Returns:
            The slots, or None when there are too few.
        """
        slots = alloc(need)
        if slots is None and evict is not None:
            evict(need)
            slots = alloc(need)
        if slots is not None:
            self._taken.append((free, slots))
        return slots

    def fill(
        self,
        transfer: PoolTransfer,
        *,
        host_indices: torch.Tensor | None,
        device_indices: torch.Tensor | None,
    ) -> None:
        """Write both index tensors into ``transfer`` and remember what they replaced."""
        self._filled.append((transfer, transfer.host_indices, transfer.device_indices))
        transfer.host_indices = host_indices
        transfer.device_indices = device_indices

    def give_back(self) -> None:
        """Free everything taken, each with its own function, and restore the transfers."""
        # Newest first: a transfer that was filled twice must get its first indices back.
        while self._filled:
            transfer, host_indices, device_indices = self._filled.pop()
            transfer.host_indices = host_indices
            transfer.device_indices = device_indices
        while self._taken:
            free, slots = self._taken.pop()
            free(slots)


def resolve_transfers(
    *,
    grant: Grant,
    group: HostPoolGroup,
    transfers: Sequence[PoolTransfer],
    direction: Direction,
    kv_host_indices: torch.Tensor,
    kv_device_indices: torch.Tensor,
) -> bool:
    """Give every transfer both index tensors, in place.

    A transfer with ``indices_from_pool`` takes over the indices of its source, after all real
    allocations succeeded, whatever it held before. Any other one gets the side that ``direction``
    writes to; a side that is already set is kept.

    Args:
        grant: remembers what is taken; the caller gives it back when the result is false.
        group: knows the pools and their allocation and eviction functions.
        transfers: in allocation order.
        direction: ``BACKUP`` allocates host slots, ``LOAD`` device slots.
        kv_host_indices: shape ``(slots,)``, the anchor's.
        kv_device_indices: shape ``(slots,)``, the anchor's.

    Returns:
        False when a pool had too few slots, also after eviction.

    Raises:
        TransferError: a pool is unknown, a source is missing, or the two sides differ in length.

    Source: sglang 0.5.12 ``hybrid_cache_controller.py`` ``_resolve_pool_transfers_allocation``; it
        lets unknown names pass and answers a missing source like a full pool.
    """
    entries = [group.entry(transfer.name) for transfer in transfers]
    for entry, transfer in zip(entries, transfers, strict=True):
        if transfer.indices_from_pool is None and not _complete(
            grant=grant, entry=entry, transfer=transfer, direction=direction
        ):
            return False
    for transfer in transfers:
        if transfer.indices_from_pool is not None:
            host_indices, device_indices = _source_indices(
                derived=transfer,
                transfers=transfers,
                kv_host_indices=kv_host_indices,
                kv_device_indices=kv_device_indices,
            )
            grant.fill(transfer, host_indices=host_indices, device_indices=device_indices)
    for transfer in transfers:
        _check_pair(transfer)
    return True


def _complete(
    *, grant: Grant, entry: PoolEntry, transfer: PoolTransfer, direction: Direction
) -> bool:
    """Allocate the side of an independent transfer that ``direction`` writes to."""
    host_indices, device_indices = transfer.host_indices, transfer.device_indices
    if direction is Direction.BACKUP and host_indices is None and device_indices is not None:
        host_indices = grant.take(
            need=len(device_indices),
            alloc=entry.host_pool.alloc,
            free=entry.host_pool.free,
            evict=entry.host_evict_fn,
        )
    elif direction is Direction.LOAD and device_indices is None and host_indices is not None:
        if entry.device_alloc_fn is None or entry.device_free_fn is None:
            raise TransferError(
                entry.name.name,
                "an independent pool must have device functions to load",
                expected="device_alloc_fn and device_free_fn",
                got="none",
            )
        device_indices = grant.take(
            need=len(host_indices),
            alloc=entry.device_alloc_fn,
            free=entry.device_free_fn,
            evict=entry.device_evict_fn,
        )
    else:
        return True
    if host_indices is None or device_indices is None:
        return False
    grant.fill(transfer, host_indices=host_indices, device_indices=device_indices)
    return True


def _source_indices(
    *,
    derived: PoolTransfer,
    transfers: Sequence[PoolTransfer],
    kv_host_indices: torch.Tensor,
    kv_device_indices: torch.Tensor,
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the host and device indices of the pool that ``derived`` follows."""
    if derived.indices_from_pool == PoolName.KV:
        # The anchor's own tensors, not copies: only the anchor frees the slots in them.
        return kv_host_indices, kv_device_indices
    for transfer in transfers:
        if transfer.name == derived.indices_from_pool and transfer.indices_from_pool is None:
            return transfer.host_indices, transfer.device_indices
    raise TransferError(
        PoolName(derived.name).name,
        "a derived transfer must follow a pool of the same operation",
        expected=derived.indices_from_pool,
        got=[str(transfer.name) for transfer in transfers],
    )


def _check_pair(transfer: PoolTransfer) -> None:
    """Raise unless every host slot has its device slot."""
    host_indices, device_indices = transfer.resolved()
    if len(host_indices) != len(device_indices):
        raise TransferError(
            PoolName(transfer.name).name,
            "a transfer must pair every device slot with a host slot",
            expected=f"{len(device_indices)} host slots",
            got=len(host_indices),
        )
