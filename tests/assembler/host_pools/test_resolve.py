import pytest
import torch

from assembler.errors import TransferError
from assembler.host_pools.group import HostPoolGroup, PoolEntry, PoolTransfer
from assembler.host_pools.resolve import Grant, resolve_transfers
from assembler.names import Direction, PoolName

KV_HOST, KV_DEVICE = torch.arange(8, 16), torch.arange(16, 24)


class Slots:
    """A stand-in for a pool's slots: a count, and a diary."""

    def __init__(self, free):
        self.left = free
        self.diary = []

    def alloc(self, need):
        self.diary.append(f"alloc {need}")
        if need > self.left:
            return None
        self.left -= need
        return torch.arange(need)

    def free(self, indices):
        self.diary.append(f"free {len(indices)}")
        self.left += len(indices)
        return len(indices)

    def evict(self, gain):
        def evict(need):
            self.diary.append(f"evict {need}")
            self.left += gain

        return evict


def group_of(pools, **sides):
    """Return a group of an anchor and sidecars with ``name=(slots, gain of an eviction)``."""
    device_pool = pools.mha()
    anchor = PoolEntry(PoolName.KV, pools.mha_host(device_pool), device_pool, lambda i: i, True)
    entries = [anchor]
    for name, (slots, gain) in sides.items():
        evict = None if gain is None else slots.evict(gain)
        entries.append(
            PoolEntry(
                PoolName(name),
                slots,
                device_pool,
                lambda i: i,
                host_evict_fn=evict,
                device_evict_fn=evict,
                device_alloc_fn=slots.alloc,
                device_free_fn=slots.free,
            )
        )
    return HostPoolGroup(entries)


def resolve(group, transfers, direction=Direction.BACKUP):
    grant = Grant()
    is_resolved = resolve_transfers(
        grant=grant,
        group=group,
        transfers=transfers,
        direction=direction,
        kv_host_indices=KV_HOST,
        kv_device_indices=KV_DEVICE,
    )
    return is_resolved, grant


def test_backup_allocates_the_missing_host_side(pools):
    slots = Slots(4)
    transfer = PoolTransfer(PoolName.MAMBA, device_indices=torch.tensor([5, 6]))

    assert resolve(group_of(pools, mamba=(slots, None)), [transfer])[0]

    assert transfer.host_indices.tolist() == [0, 1]
    assert slots.diary == ["alloc 2"]


def test_load_allocates_the_missing_device_side(pools):
    slots = Slots(4)
    transfer = PoolTransfer(PoolName.MAMBA, host_indices=torch.tensor([5, 6]))

    assert resolve(group_of(pools, mamba=(slots, None)), [transfer], Direction.LOAD)[0]

    assert transfer.device_indices.tolist() == [0, 1]


def test_side_that_is_already_set_is_kept(pools):
    slots = Slots(4)
    preset = torch.tensor([3])
    transfer = PoolTransfer(PoolName.MAMBA, host_indices=torch.tensor([5]), device_indices=preset)

    assert resolve(group_of(pools, mamba=(slots, None)), [transfer], Direction.LOAD)[0]

    assert transfer.device_indices is preset
    assert slots.diary == []


def test_full_pool_is_evicted_once_with_the_whole_need_and_tried_again(pools):
    slots = Slots(2)
    transfer = PoolTransfer(PoolName.MAMBA, device_indices=torch.arange(3))

    assert resolve(group_of(pools, mamba=(slots, 1)), [transfer])[0]

    assert slots.diary == ["alloc 3", "evict 3", "alloc 3"]


def test_pool_that_stays_full_rolls_everything_back(pools):
    mamba, swa = Slots(4), Slots(0)
    group = group_of(pools, mamba=(mamba, None), swa=(swa, 0))
    first = PoolTransfer(PoolName.MAMBA, device_indices=torch.arange(4))
    second = PoolTransfer(PoolName.SWA, device_indices=torch.arange(9))

    is_resolved, grant = resolve(group, [first, second])
    grant.give_back()

    assert not is_resolved
    assert swa.diary == ["alloc 9", "evict 9", "alloc 9"]
    assert mamba.diary == ["alloc 4", "free 4"]
    assert first.host_indices is None
    assert second.host_indices is None


def test_derived_transfer_takes_the_anchors_indices(pools):
    transfer = PoolTransfer(PoolName.INDEXER, indices_from_pool=PoolName.KV)

    assert resolve(group_of(pools, indexer=(Slots(0), None)), [transfer])[0]

    assert transfer.host_indices is KV_HOST
    assert transfer.device_indices is KV_DEVICE


def test_derived_transfer_may_come_before_the_sidecar_it_follows(pools):
    group = group_of(pools, indexer=(Slots(0), None), swa=(Slots(4), None))
    derived = PoolTransfer(PoolName.INDEXER, indices_from_pool=PoolName.SWA)
    source = PoolTransfer(PoolName.SWA, device_indices=torch.arange(4))

    assert resolve(group, [derived, source])[0]

    assert derived.host_indices is source.host_indices


def test_giving_back_restores_derived_transfers_too(pools):
    transfer = PoolTransfer(PoolName.INDEXER, indices_from_pool=PoolName.KV)
    _, grant = resolve(group_of(pools, indexer=(Slots(0), None)), [transfer])

    grant.give_back()

    assert (transfer.host_indices, transfer.device_indices) == (None, None)


def test_missing_source_raises(pools):
    group = group_of(pools, indexer=(Slots(0), None), swa=(Slots(0), None))
    derived = PoolTransfer(PoolName.INDEXER, indices_from_pool=PoolName.SWA)
    message = (
        r"INDEXER: .* must follow a pool of the same operation; expected swa, got \['indexer'\]"
    )
    with pytest.raises(TransferError, match=message):
        resolve(group, [derived])


def test_unknown_pool_raises_before_anything_is_taken(pools):
    slots = Slots(4)
    known = PoolTransfer(PoolName.MAMBA, device_indices=torch.arange(2))
    unknown = PoolTransfer(PoolName.SWA, device_indices=torch.arange(2))
    with pytest.raises(TransferError, match="expected one of kv, mamba, got swa"):
        resolve(group_of(pools, mamba=(slots, None)), [known, unknown])
    assert slots.diary == []


def test_transfer_without_any_indices_raises(pools):
    with pytest.raises(TransferError, match=r"MAMBA: a transfer must be resolved.*got none"):
        resolve(group_of(pools, mamba=(Slots(4), None)), [PoolTransfer(PoolName.MAMBA)])


def test_sides_of_different_length_raise(pools):
    transfer = PoolTransfer(
        PoolName.MAMBA, host_indices=torch.arange(2), device_indices=torch.arange(3)
    )
    with pytest.raises(TransferError, match="expected 3 host slots, got 2"):
        resolve(group_of(pools, mamba=(Slots(4), None)), [transfer])


def test_load_of_a_pool_without_device_functions_raises(pools):
    device_pool = pools.mha()
    host_pool = pools.mha_host(device_pool)
    group = HostPoolGroup(
        [
            PoolEntry(PoolName.KV, host_pool, device_pool, lambda i: i, True),
            PoolEntry(PoolName.SWA, pools.mha_host(device_pool), device_pool, lambda i: i),
        ]
    )
    transfer = PoolTransfer(PoolName.SWA, host_indices=torch.arange(4))
    with pytest.raises(TransferError, match="SWA: an independent pool must have device functions"):
        resolve(group, [transfer], Direction.LOAD)
