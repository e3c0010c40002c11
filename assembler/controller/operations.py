"""Operations of the controller's queues, merging them, and their acknowledgements."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from assembler.collectives import CacheRanks, CollectiveRole
from assembler.device.base import Event
from assembler.host_pools.group import PoolTransfer
from assembler.host_pools.resolve import Grant
from assembler.names import PoolName


class HiCacheAck(NamedTuple):
    """Acknowledgement of the operations of some nodes, launched together.

    Attributes:
        start_event: the work that the copies wait for.
        finish_event: recorded after the last copy; query it before freeing a slot of these nodes.
        node_ids: the nodes.
    """

    start_event: Event
    finish_event: Event
    node_ids: list[int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CacheOperation:
    """One or more requests to move slots, all resolved.

    Attributes:
        host_indices: ``(slots,) int64``, the anchor's host slots; may be empty.
        device_indices: ``(slots,) int64``, the anchor's device slots.
        node_ids: the node of each request.
        priority: lower goes first.
        pool_transfers: what moves along in the sidecars.
        grants: the slots taken for it, given back when its copy fails.
    """

    host_indices: torch.Tensor
    device_indices: torch.Tensor
    node_ids: tuple[int, ...]
    priority: int
    pool_transfers: tuple[PoolTransfer, ...]
    grants: tuple[Grant, ...]

    def give_back(self) -> None:
        """Free every slot that was taken for this operation, newest first."""
        for grant in reversed(self.grants):
            grant.give_back()


def merge_operations(operations: Sequence[CacheOperation]) -> CacheOperation:
    """Merge operations into one, by priority, then in order of arrival.

    A single operation is returned as it is. Transfers of the same pool and the same source of
    indices become one transfer, with the first one's hit policy.

    Source: sglang 0.5.12 ``cache_controller.py`` and ``hybrid_cache_controller.py``
        (``merge_ops``); there the order is that of arrival only, and 0.5.11 lost the hit policy.
    """
    assert operations, "merging needs an operation"
    if len(operations) == 1:
        return operations[0]
    ordered = sorted(operations, key=lambda operation: operation.priority)
    return CacheOperation(
        host_indices=torch.cat([operation.host_indices for operation in ordered]),
        device_indices=torch.cat([operation.device_indices for operation in ordered]),
        node_ids=tuple(node_id for operation in ordered for node_id in operation.node_ids),
        priority=ordered[0].priority,
        pool_transfers=_merge_transfers(
            [transfer for operation in ordered for transfer in operation.pool_transfers]
        ),
        grants=tuple(grant for operation in ordered for grant in operation.grants),
    )


def take_finished(
    acks: list[HiCacheAck], *, block: bool, ranks: CacheRanks, role: CollectiveRole
) -> list[int]:
    """Take leading acknowledgements that every rank finished off a queue; return their node ids.

    Every rank calls it as often and with the same queue. An empty queue asks no other rank.

    Raises:
        CollectiveError: a rank failed or did not answer in time.

    Order: with ``block`` the host waits for every one of them.
    """
    if not acks:
        return []
    # Only leading ones: a later load that is done must not unlock its nodes before an earlier one.
    ready = 0
    while ready < len(acks) and (block or acks[ready].finish_event.query()):
        if block:
            acks[ready].finish_event.synchronize()
        ready += 1
    # Slots of a node that one rank freed earlier would be other slots than those of another rank.
    (agreed,) = ranks.minimum([ready], role=role)
    taken = [acks.pop(0) for _ in range(agreed)]
    return [node_id for ack in taken for node_id in ack.node_ids]


def _merge_transfers(transfers: Sequence[PoolTransfer]) -> tuple[PoolTransfer, ...]:
    """Join transfers that agree in pool and source of indices."""
    groups: dict[tuple[PoolName, PoolName | None], list[PoolTransfer]] = {}
    for transfer in transfers:
        groups.setdefault((transfer.name, transfer.indices_from_pool), []).append(transfer)
    return tuple(_join(group) for group in groups.values())


def _join(transfers: Sequence[PoolTransfer]) -> PoolTransfer:
    """Concatenate resolved transfers; host and device slots stay paired."""
    pairs = [transfer.resolved() for transfer in transfers]
    keys = [key for transfer in transfers for key in transfer.keys or ()]
    nodes = [node for transfer in transfers for node in transfer.nodes_to_load or ()]
    return replace(
        transfers[0],
        host_indices=torch.cat([host_indices for host_indices, _ in pairs]),
        device_indices=torch.cat([device_indices for _, device_indices in pairs]),
        keys=keys or None,
        nodes_to_load=nodes or None,
    )
