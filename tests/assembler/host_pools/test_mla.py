"""The latent host pool, and what happens when its row is narrower than the device's (#25022)."""

import pytest
import torch

from assembler.errors import PoolError
from assembler.names import PoolName


def placed(pool, backend, slots):
    indices = torch.arange(slots.start, slots.stop)
    return pool.device.to_device(indices) if backend == "kernel" else indices


def back_up(host, pool, *, slots, host_slots, io_backend):
    host.backup_from_device_all_layer(
        device_pool=pool,
        host_indices=placed(pool, io_backend, host_slots),
        device_indices=placed(pool, io_backend, slots),
        io_backend=io_backend,
    )
    pool.device.synchronize()


def load(host, pool, *, slots, host_slots, io_backend):
    for layer in range(3):
        host.load_to_device_per_layer(
            device_pool=pool,
            host_indices=placed(pool, io_backend, host_slots),
            device_indices=placed(pool, io_backend, slots),
            layer_id=layer,
            io_backend=io_backend,
        )
    pool.device.synchronize()


def fill_rows(pool):
    """Give each row of each layer random bytes; return them."""
    generator = torch.Generator().manual_seed(11)
    for buffer in pool.kv_buffer:
        buffer.copy_(torch.randint(0, 256, buffer.shape, generator=generator, dtype=torch.uint8))
    return [buffer.cpu().clone() for buffer in pool.kv_buffer]


def changed_rows(pool, before):
    """Return, for each layer, the rows of which any byte differs."""
    return [
        buffer.cpu().ne(old).flatten(1).any(dim=1).nonzero().view(-1).tolist()
        for buffer, old in zip(pool.kv_buffer, before, strict=True)
    ]


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ("layer_first", (3, 52, 1, 576)),
        ("page_first", (52, 3, 1, 576)),
        ("page_first_direct", (13, 3, 4, 1, 576)),
    ],
)
def test_buffer_shapes(pools, layout, shape):
    host = pools.mla_host(pools.mla(), layout=layout)

    assert tuple(host.kv_buffer.shape) == shape
    assert host.kv_buffer.dtype == torch.bfloat16
    assert host.size_per_token == 3456  # 576 * 2 bytes * 3 layers


def test_page_head_is_not_a_layout_of_latent_rows(pools):
    with pytest.raises(ValueError, match="got page_head"):
        pools.mla_host(pools.mla(), layout="page_head")


def test_override_is_the_width(pools):
    host = pools.mla_host(pools.nsa(), override=656)

    assert tuple(host.kv_buffer.shape) == (3, 52, 1, 656)
    assert host.size_per_token == 1968  # 656 * 3 layers


def test_missing_override_is_576_whatever_the_device_pool_says(pools):
    pool = pools.nsa()
    host = pools.mla_host(pool)

    assert pool.kv_cache_dim == 656
    assert tuple(host.kv_buffer.shape) == (3, 52, 1, 576)
    assert host.size_per_token == 1728  # 576 * 3 layers


def test_missing_override_changes_nothing_for_bfloat16(pools):
    pool = pools.nsa(dtype=torch.bfloat16, kv_cache_dim=576)

    missing, given = pools.mla_host(pool), pools.mla_host(pool, override=576)

    assert missing.geometry(PoolName.KV) == given.geometry(PoolName.KV)
    assert missing.geometry(PoolName.KV) == pool.mirrored()[0].geometry


@pytest.mark.parametrize("override", [0, -1])
def test_override_that_is_no_width_raises(pools, override):
    with pytest.raises(
        PoolError, match=f"override_kv_cache_dim .* expected 1 or more, got {override}"
    ):
        pools.mla_host(pools.nsa(), override=override)


@pytest.mark.parametrize("layout", ["layer_first", "page_first_direct"])
def test_narrow_host_fails_on_direct_backup_with_the_hosts_width_first(pools_anywhere, layout):
    pool = pools_anywhere.nsa()
    host = pools_anywhere.mla_host(pool, layout=layout)
    host.kv_buffer.fill_(0xA5)

    with pytest.raises(
        RuntimeError,
        match=r"^The size of tensor a \(576\) must match the size of tensor b \(656\) "
        r"at non-singleton dimension 2$",
    ):
        back_up(host, pool, slots=range(4, 12), host_slots=range(8), io_backend="direct")

    assert host.kv_buffer.eq(0xA5).all()


@pytest.mark.parametrize("layout", ["layer_first", "page_first_direct"])
def test_narrow_host_fails_on_direct_load_with_the_devices_width_first(pools_anywhere, layout):
    pool = pools_anywhere.nsa()
    host = pools_anywhere.mla_host(pool, layout=layout)
    before = fill_rows(pool)

    with pytest.raises(
        RuntimeError,
        match=r"^The size of tensor a \(656\) must match the size of tensor b \(576\) "
        r"at non-singleton dimension 2$",
    ):
        load(host, pool, slots=range(4, 12), host_slots=range(8), io_backend="direct")

    assert changed_rows(pool, before) == [[], [], []]


def test_right_host_passes_on_direct_in_both_directions(pools_anywhere):
    pool = pools_anywhere.nsa()
    host = pools_anywhere.mla_host(pool, override=656)
    before = fill_rows(pool)

    back_up(host, pool, slots=range(4, 12), host_slots=range(8), io_backend="direct")
    load(host, pool, slots=range(16, 24), host_slots=range(8), io_backend="direct")

    assert changed_rows(pool, before) == [list(range(16, 24))] * 3


@pytest.mark.parametrize("layout", ["layer_first", "page_first"])
def test_narrow_host_silently_corrupts_other_slots_with_kernel(pools_anywhere, layout):
    """Back up 128 tokens and load them into slots 128 to 255; no error is raised.

    Scenario:
    1. Device rows are 656 bytes, the host believes in 576 and strides through the device with it.
    2. The load writes bytes 128 * 576 = 73728 to 256 * 576 - 1 = 147455 of each layer.
    3. 73728 / 656 = 112.4 and 147455 / 656 = 224.8: rows 112 to 224 change, not 128 to 255.
    4. Rows 112 to 127 were somebody else's: 16 tokens destroyed.
    """
    pool = pools_anywhere.nsa(size=256, page_size=64)
    host = pools_anywhere.mla_host(pool, layout=layout, page_size=64)
    before = fill_rows(pool)

    back_up(host, pool, slots=range(128), host_slots=range(128), io_backend="kernel")
    assert changed_rows(pool, before) == [[], [], []]
    load(host, pool, slots=range(128, 256), host_slots=range(128), io_backend="kernel")

    assert changed_rows(pool, before) == [list(range(112, 225))] * 3
    for buffer, old in zip(pool.kv_buffer, before, strict=True):
        assert not torch.equal(buffer[128:256].cpu(), old[:128])
        # Byte 0 of slot 0 arrived at byte 73728 of the layer: in row 112, byte 256.
        flat, old_flat = buffer.cpu().view(-1), old.view(-1)
        assert torch.equal(flat[73728:147456], old_flat[:73728])
        assert torch.equal(flat[:73728], old_flat[:73728])
        assert torch.equal(flat[147456:], old_flat[147456:])


@pytest.mark.parametrize("layout", ["layer_first", "page_first"])
def test_right_host_changes_only_the_target_slots_with_kernel(pools_anywhere, layout):
    """The control of the test above: the same traffic with the override given."""
    pool = pools_anywhere.nsa(size=256, page_size=64)
    host = pools_anywhere.mla_host(pool, layout=layout, override=656, page_size=64)
    before = fill_rows(pool)

    back_up(host, pool, slots=range(128), host_slots=range(128), io_backend="kernel")
    load(host, pool, slots=range(128, 256), host_slots=range(128), io_backend="kernel")

    assert changed_rows(pool, before) == [list(range(128, 256))] * 3
    for buffer, old in zip(pool.kv_buffer, before, strict=True):
        assert torch.equal(buffer[128:256].cpu(), old[:128])
