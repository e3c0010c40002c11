import pytest
import torch

from assembler.errors import AssemblyError, TransferError
from assembler.host_pools.group import HostPoolGroup, PoolEntry, PoolTransfer
from assembler.names import PoolName

SLOTS = torch.arange(4, 8)


def entry(pools, name, *, is_anchor=False, mapper=lambda layer: layer):
    device_pool = pools.mha()
    return PoolEntry(
        name=name,
        host_pool=pools.mha_host(device_pool),
        device_pool=device_pool,
        layer_mapper=mapper,
        is_primary_index_anchor=is_anchor,
    )


@pytest.fixture
def group(pools):
    return HostPoolGroup([entry(pools, PoolName.KV, is_anchor=True), entry(pools, PoolName.SWA)])


def test_group_takes_size_page_and_layout_from_its_anchor(group):
    assert (group.size, group.page_size, group.layout) == (52, 4, "layer_first")
    assert group.anchor_entry.name is PoolName.KV


def test_anchor_need_not_come_first(pools):
    group = HostPoolGroup([entry(pools, PoolName.SWA), entry(pools, PoolName.KV, is_anchor=True)])

    assert group.anchor_entry.name is PoolName.KV


def test_empty_group_raises():
    with pytest.raises(AssemblyError, match="a group must have a pool; expected one entry or more"):
        HostPoolGroup([])


def test_duplicate_name_raises(pools):
    twice = [entry(pools, PoolName.KV, is_anchor=True), entry(pools, PoolName.KV)]
    with pytest.raises(AssemblyError, match=r"got \['KV', 'KV'\]"):
        HostPoolGroup(twice)


@pytest.mark.parametrize(("anchors", "got"), [(0, "none"), (2, r"\['KV', 'SWA'\]")])
def test_group_without_exactly_one_anchor_raises(pools, anchors, got):
    entries = [
        entry(pools, name, is_anchor=index < anchors)
        for index, name in enumerate([PoolName.KV, PoolName.SWA])
    ]
    with pytest.raises(AssemblyError, match=f"expected exactly one anchor, got {got}"):
        HostPoolGroup(entries)


def test_slots_are_the_anchors(group):
    slots = group.alloc(8)

    assert slots.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert group.available_size() == 44
    assert group.get_pool(PoolName.SWA).available_size() == 52
    assert group.free(slots) == 8
    assert group.available_size() == 52


def test_clear_frees_every_pool(group):
    group.alloc(4)
    group.get_pool(PoolName.SWA).alloc(4)

    group.clear()

    assert [pool.host_pool.available_size() for pool in group.entries] == [52, 52]


@pytest.mark.parametrize("direction", ["load", "backup"])
def test_transfer_of_an_unknown_pool_raises(group, direction):
    transfer = PoolTransfer(PoolName.MAMBA, host_indices=SLOTS, device_indices=SLOTS)
    message = "MAMBA: the group must have the pool; expected one of kv, swa, got mamba"
    with pytest.raises(TransferError, match=message):
        move(group, direction, transfer)


@pytest.mark.parametrize("direction", ["load", "backup"])
def test_unresolved_transfer_raises(group, direction):
    transfer = PoolTransfer(PoolName.SWA, device_indices=SLOTS)
    message = "SWA: a transfer must be resolved before it moves; expected host and device indices"
    with pytest.raises(TransferError, match=f"{message}, got device"):
        move(group, direction, transfer)


def move(group, direction, *transfers, layer=0):
    common = {
        "host_indices": SLOTS,
        "device_indices": SLOTS,
        "io_backend": "kernel",
        "pool_transfers": transfers,
    }
    if direction == "load":
        group.load_to_device_per_layer(layer_id=layer, **common)
    else:
        group.backup_from_device_all_layer(**common)


def test_load_moves_the_mapped_layer_of_the_pools_that_have_it(pools):
    kv = entry(pools, PoolName.KV, is_anchor=True, mapper={0: 2}.get)
    swa = entry(pools, PoolName.SWA, mapper={1: 0}.get)
    group = HostPoolGroup([kv, swa])
    for each in (kv, swa):
        each.host_pool.kv_buffer.fill_(1)

    move(group, "load", PoolTransfer(PoolName.SWA, host_indices=SLOTS, device_indices=SLOTS))

    loaded = [bool(layer[SLOTS].eq(1).all()) for layer in kv.device_pool.k_buffer]
    assert loaded == [False, False, True]
    assert not any(layer.any() for layer in swa.device_pool.k_buffer)


def test_backup_without_anchor_indices_moves_sidecars_only(pools, group):
    kv, swa = group.entries
    for each in (kv, swa):
        each.host_pool.kv_buffer.fill_(0)
        for layer in each.device_pool.k_buffer:
            layer.fill_(1)

    group.backup_from_device_all_layer(
        host_indices=SLOTS[:0],
        device_indices=SLOTS[:0],
        io_backend="kernel",
        pool_transfers=[PoolTransfer(PoolName.SWA, host_indices=SLOTS, device_indices=SLOTS)],
    )

    assert not kv.host_pool.k_buffer.any()
    assert bool(swa.host_pool.k_buffer[:, SLOTS].eq(1).all())
