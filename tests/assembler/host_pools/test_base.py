import pytest
import torch

from assembler.errors import OutOfHostMemoryError, PoolError, TransferError
from assembler.names import PoolName


@pytest.fixture
def pool(pools):
    return pools.mha()


@pytest.fixture
def host(pools, pool):
    """52 slots: 13 pages of 4."""
    return pools.mha_host(pool)


def move(host, pool, *, io_backend):
    host.backup_from_device_all_layer(
        device_pool=pool,
        host_indices=torch.tensor([0, 1, 2, 3]),
        device_indices=torch.tensor([4, 5, 6, 7]),
        io_backend=io_backend,
    )


def test_size_is_the_ratio_in_whole_pages_and_one_page(host):
    assert (host.size, host.page_num, host.page_size) == (52, 13, 4)
    assert host.available_size() == 52


def test_slot_zero_is_an_ordinary_slot(host):
    assert host.alloc(4).tolist() == [0, 1, 2, 3]
    assert host.alloc(52) is None
    assert host.alloc(48).tolist() == list(range(4, 52))


def test_alloc_is_in_whole_pages(host):
    with pytest.raises(PoolError, match="MHATokenToKVPoolHost: slots must be whole pages"):
        host.alloc(3)
    assert host.alloc(0).tolist() == []


def test_free_returns_the_number_of_slots(host):
    slots = host.alloc(8)

    assert host.free(slots) == 8
    assert host.available_size() == 52


def test_double_free_raises_and_frees_nothing(host):
    slots = host.alloc(8)
    host.free(slots[:4])

    with pytest.raises(PoolError, match="in use"):
        host.free(slots)

    assert host.available_size() == 48


def test_foreign_slot_raises(host):
    host.alloc(52)

    with pytest.raises(PoolError, match="expected 0 to 51, got 52"):
        host.free(torch.tensor([52, 53, 54, 55]))


def test_part_of_a_page_raises(host):
    slots = host.alloc(8)

    with pytest.raises(PoolError, match="part of page 1"):
        host.free(slots[:6])


def test_clear_frees_everything(host):
    host.alloc(20)
    host.clear()

    assert host.available_size() == 52


def test_pool_takes_its_numbers_from_the_mirrored_pool(pools):
    pool = pools.mha(start_layer=7, dtype=torch.float8_e4m3fn)
    host = pools.mha_host(pool)

    assert host.layer_num == 3
    assert host.kv_buffer.dtype == torch.uint8
    assert host.device_pool is pool
    assert host.device is pools.device


def test_geometry_carries_the_name_it_is_asked_for(host):
    geometry = host.geometry(PoolName.SWA)

    assert geometry.pool is PoolName.SWA
    assert geometry.layer_num == 3
    assert geometry.slots_per_row == 1
    assert geometry.bytes_per_row == 192 == host.size_per_token  # (2*8 + 2*8) * 2 * 3


def test_host_and_device_geometry_agree(pools):
    pool = pools.mha(v_head_dim=20)

    assert pools.mha_host(pool).geometry(PoolName.KV) == pool.mirrored()[0].geometry


def test_unknown_layout_raises(pools, pool):
    with pytest.raises(
        PoolError,
        match="unsupported layout; expected layer_first or page_first or page_first_direct "
        "or page_head, got page_last",
    ):
        pools.mha_host(pool, layout="page_last")


def test_pool_larger_than_memory_raises_before_it_is_allocated(pools):
    pool = pools.mla()

    with pytest.raises(OutOfHostMemoryError, match="got 1000000000"):
        pools.mla_host(pool, size_gb=10**9)


def test_host_smaller_than_the_device_raises(pools, pool):
    # 24 * 0.75 = 18 slots, 4 whole pages and one: 20 slots.
    with pytest.raises(PoolError, match="expected more than 24 slots, got 20"):
        pools.mha_host(pool, ratio=0.75)


@pytest.mark.parametrize("io_backend", ["", "kernel_ascend", "KERNEL"])
def test_unknown_backend_raises(host, pool, io_backend):
    with pytest.raises(TransferError, match="unsupported io backend; expected kernel or direct"):
        move(host, pool, io_backend=io_backend)


@pytest.mark.parametrize(
    ("layout", "io_backend"),
    [
        ("page_first_direct", "kernel"),
        ("page_first", "direct"),
        ("page_head", "direct"),
    ],
)
def test_layout_that_the_backend_cannot_move_raises(pools, pool, layout, io_backend):
    host = pools.mha_host(pool, layout=layout)

    with pytest.raises(TransferError, match=f"{io_backend} cannot move this layout; .* {layout}$"):
        move(host, pool, io_backend=io_backend)


@pytest.mark.parametrize("layer", [-1, 3])
def test_layer_outside_the_pool_raises(host, pool, layer):
    with pytest.raises(TransferError, match=f"expected 0 to 2, got {layer}"):
        host.load_to_device_per_layer(
            device_pool=pool,
            host_indices=torch.tensor([0]),
            device_indices=torch.tensor([4]),
            layer_id=layer,
            io_backend="direct",
        )


def test_pinning_is_what_was_asked_for(pools, pool):
    pinned, pageable = pools.mha_host(pool), pools.mha_host(pool, pin=False)

    assert pools.device.is_pinned(pinned.kv_buffer)
    assert not pools.device.is_pinned(pageable.kv_buffer)


def test_pageable_memory_is_refused_by_kernel_and_moved_by_direct(pools, pool):
    host = pools.mha_host(pool, pin=False)

    with pytest.raises(TransferError, match="page-locked host memory; expected pinned"):
        move(host, pool, io_backend="kernel")
    move(host, pool, io_backend="direct")


def test_public_tensors_are_the_row_buffers_only(pools):
    nsa, wide = pools.nsa(), pools.mha(v_head_dim=20)
    hosts = (
        pools.mha_host(pools.mha()),
        pools.mha_host(wide),
        pools.indexer_host(nsa),
        pools.mamba_host(pools.mamba()),
    )
    public = {
        name
        for host in hosts
        for name, value in vars(host).items()
        if not name.startswith("_")
        and (
            isinstance(value, torch.Tensor)
            or (isinstance(value, list) and isinstance(value[0], torch.Tensor))
        )
    }

    assert public == {
        "kv_buffer",
        "index_k_with_scale_buffer",
        "temporal_buffer",
        "conv_buffer",
    }
