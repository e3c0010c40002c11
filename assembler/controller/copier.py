"""The copies of a resolved operation between host pools and device pools."""

from dataclasses import dataclass, replace

import torch

from assembler.controller.operations import CacheOperation
from assembler.device.base import Device, Stream
from assembler.device_pools.base import TokenKVPool
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.group import HostPoolGroup, PoolTransfer
from assembler.names import HostLayout, IoBackend


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftPools:
    """The pools of a draft model, which live on the anchor's slot numbers."""

    device_pool: TokenKVPool
    host_pool: HostKVCache


class StackCopier:
    """Copies of all pools of a group on the current stream; ``draft`` moves with the anchor."""

    def __init__(self, *, device: Device, group: HostPoolGroup, io_backend: IoBackend) -> None:
        self.draft: DraftPools | None = None
        self._device = device
        self._group = group
        self._io_backend = io_backend

    def place_indices(
        self, *, host_indices: torch.Tensor, device_indices: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return host and device indices as the io backend reads them, still in pairs.

        ``kernel`` reads both in device memory. ``direct`` reads both in host memory; with the
        layout ``layer_first`` the pairs are sorted by host slot, for longer runs.

        Order: device memory is ready for later work on the current stream.

        Source: sglang 0.5.12 ``cache_controller.py:761-781``.
        """
        if self._io_backend is IoBackend.KERNEL:
            return self._device.to_device(host_indices), self._device.to_device(device_indices)
        # to_host blocks for device tensors; that is what ``direct`` costs, and not a lost wait.
        host_indices = self._device.to_host(host_indices)
        device_indices = self._device.to_host(device_indices)
        if self._group.layout != HostLayout.LAYER_FIRST:
            return host_indices, device_indices
        # The device slots take the same order, or rows would go to other tokens' slots.
        ascending, order = torch.sort(host_indices)
        return ascending, device_indices[order]

    def place(self, operation: CacheOperation) -> CacheOperation:
        """Return ``operation`` with every index tensor placed; the original keeps its own.

        The transfers may belong to a cache, so they are copied and not changed.
        """
        host_indices, device_indices = self.place_indices(
            host_indices=operation.host_indices, device_indices=operation.device_indices
        )
        return replace(
            operation,
            host_indices=host_indices,
            device_indices=device_indices,
            pool_transfers=tuple(map(self._place_transfer, operation.pool_transfers)),
        )

    def backup(self, placed: CacheOperation) -> None:
        """Copy all layers of all pools to the host."""
        self._group.backup_from_device_all_layer(
            host_indices=placed.host_indices,
            device_indices=placed.device_indices,
            io_backend=self._io_backend,
            pool_transfers=placed.pool_transfers,
        )
        if self.draft is not None and len(placed.host_indices):
            self.draft.host_pool.backup_from_device_all_layer(
                device_pool=self.draft.device_pool,
                host_indices=placed.host_indices,
                device_indices=placed.device_indices,
                io_backend=self._io_backend,
            )

    def expect_load(self, placed: CacheOperation) -> None:
        """Announce that all layers will be loaded, one after the other, on the current stream."""
        self._group.expect_load(
            host_indices=placed.host_indices,
            device_indices=placed.device_indices,
            io_backend=self._io_backend,
            pool_transfers=placed.pool_transfers,
        )

    def load_layer(self, placed: CacheOperation, *, layer: int) -> None:
        """Copy one stage-local layer of all pools to the device."""
        self._group.load_to_device_per_layer(
            host_indices=placed.host_indices,
            device_indices=placed.device_indices,
            layer_id=layer,
            io_backend=self._io_backend,
            pool_transfers=placed.pool_transfers,
        )
        draft = self.draft
        if draft is not None and len(placed.host_indices) and layer < draft.device_pool.layer_num:
            draft.host_pool.load_to_device_per_layer(
                device_pool=draft.device_pool,
                host_indices=placed.host_indices,
                device_indices=placed.device_indices,
                layer_id=layer,
                io_backend=self._io_backend,
            )

    def _place_transfer(self, transfer: PoolTransfer) -> PoolTransfer:
        host_indices, device_indices = transfer.resolved()
        host_indices, device_indices = self.place_indices(
            host_indices=host_indices, device_indices=device_indices
        )
        return replace(transfer, host_indices=host_indices, device_indices=device_indices)


def hold_operation(*, stream: Stream, operation: CacheOperation) -> None:
    """Keep the memory of an operation's index tensors until ``stream``'s work so far is done."""
    pairs = [(operation.host_indices, operation.device_indices)]
    pairs += [transfer.resolved() for transfer in operation.pool_transfers]
    for host_indices, device_indices in pairs:
        stream.hold(host_indices)
        stream.hold(device_indices)
