"""Compressed index keys: a row for every four slots, which follows the slots of the anchor."""

import pytest
import torch

from assembler.device_pools.qsa import QSATokenToKVPool
from assembler.errors import PoolError, TransferError
from assembler.names import ComponentType, PoolName


def make_pool(pools, *, page_size=8, compress_ratio=4):
    return QSATokenToKVPool(
        size=48,
        page_size=page_size,
        dtype=torch.bfloat16,
        head_num=2,
        head_dim=8,
        v_head_dim=8,
        layer_num=3,
        device=pools.device,
        start_layer=6,
        end_layer=8,
        index_head_dim=16,
        compress_ratio=compress_ratio,
        index_dtype=torch.bfloat16,
    )


def make_hosts(pool, *, layout="layer_first"):
    arguments = {
        "host_to_device_ratio": 2.0,
        "host_size": 0,
        "page_size": pool.page_size,
        "layout": layout,
        "pin_memory": True,
        "device": pool.device,
        "allocator_type": None,
    }
    anchor = pool.make_host_pool(arguments, override_kv_cache_dim=None)
    _, index = pool.mirrored()
    return anchor, index.make_sidecar_host(anchor, arguments)


def test_a_key_belongs_to_four_slots(pools):
    pool = make_pool(pools)

    assert pool.k_buffer[0].shape == (56, 2, 8)
    assert pool.index_k_buffer[0].shape == (14, 1, 16)
    assert pool.plane_buffer(plane="index_k", layer=2) is pool.index_k_buffer[2]


def test_rows_and_keys_are_declared(pools):
    pool = make_pool(pools)
    rows, index = pool.mirrored()

    assert (rows.geometry.pool, index.geometry.pool) == (PoolName.KV, PoolName.INDEXER)
    assert (rows.owns_slots, index.owns_slots) == (True, False)
    assert index.component is ComponentType.FULL
    assert index.geometry.slots_per_row == 4
    assert index.geometry.planes[0].row_bytes == 32  # 16 elements * 2 bytes
    assert index.layer_mapping == {6: 0, 7: 1, 8: 2}
    assert index.read_layer(7) is pool.index_k_buffer[1]


def test_host_has_as_many_pages_as_its_anchor(pools):
    pool = make_pool(pools)
    anchor, host = make_hosts(pool)

    assert (anchor.size, host.size, host.page_num) == (104, 104, 13)
    assert host.geometry(PoolName.INDEXER) == pool.mirrored()[1].geometry
    assert host.size_per_token == 24  # 32 bytes / 4 slots * 3 layers


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ("layer_first", (3, 26, 1, 16)),
        ("page_first", (26, 3, 1, 16)),
        ("page_first_direct", (13, 3, 2, 1, 16)),
    ],
)
def test_buffer_shapes(pools, layout, shape):
    _, host = make_hosts(make_pool(pools), layout=layout)

    assert tuple(host.index_k_buffer.shape) == shape
    assert host.index_k_buffer.dtype == torch.bfloat16


def test_page_must_be_whole_groups(pools):
    with pytest.raises(PoolError, match="whole groups of tokens; expected a multiple of 3, got 8"):
        make_pool(pools, compress_ratio=3)


@pytest.mark.parametrize("io_backend", ["kernel", "direct"])
@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ([8, 9, 10], "expected a multiple of 4 slots, got 3"),
        ([9, 10, 11, 12], "expected slot 8 at position 0, got slot 9"),
        ([8, 10, 9, 11], "expected slot 9 at position 1, got slot 10"),
    ],
)
def test_slots_that_are_not_whole_groups_raise(pools, io_backend, slots, message):
    pool = make_pool(pools)
    _, host = make_hosts(pool)

    with pytest.raises(TransferError, match=message):
        host.backup_from_device_all_layer(
            device_pool=pool,
            host_indices=torch.arange(len(slots)),
            device_indices=torch.tensor(slots),
            io_backend=io_backend,
        )


@pytest.mark.parametrize(
    ("io_backend", "layout"),
    [
        ("kernel", "layer_first"),
        ("kernel", "page_first"),
        ("direct", "layer_first"),
        ("direct", "page_first_direct"),
    ],
)
def test_keys_come_back_with_other_slots(pools, io_backend, layout):
    pool = make_pool(pools)
    _, host = make_hosts(pool, layout=layout)
    generator = torch.Generator().manual_seed(5)
    for keys in pool.index_k_buffer:
        keys.copy_(torch.randn(keys.shape, generator=generator))
    before = [keys.clone() for keys in pool.index_k_buffer]
    host_slots, source, target = torch.arange(16, 32), torch.arange(8, 24), torch.arange(40, 56)

    host.backup_from_device_all_layer(
        device_pool=pool, host_indices=host_slots, device_indices=source, io_backend=io_backend
    )
    for keys in pool.index_k_buffer:
        keys.fill_(-1)
    for layer in range(3):
        host.load_to_device_per_layer(
            device_pool=pool,
            host_indices=host_slots,
            device_indices=target,
            layer_id=layer,
            io_backend=io_backend,
        )

    for keys, old in zip(pool.index_k_buffer, before, strict=True):
        expected = torch.full_like(old, -1)
        expected[10:14] = old[2:6]
        assert torch.equal(keys, expected)
