"""MXFP8 rows: four planes on the same slots, in every layout that their copies can address."""

import pytest
import torch

from assembler.device_pools.mxfp8 import MHATokenToKVPoolMXFP8
from assembler.errors import AssemblyError, PoolError, TransferError
from assembler.names import ComponentType, PoolName


def make_pool(pools, *, dtype=torch.float8_e4m3fn, head_num=4, head_dim=128, v_head_dim=64):
    return MHATokenToKVPoolMXFP8(
        size=24,
        page_size=4,
        dtype=dtype,
        head_num=head_num,
        head_dim=head_dim,
        v_head_dim=v_head_dim,
        layer_num=3,
        device=pools.device,
        start_layer=6,
        end_layer=8,
    )


def make_host(pool, *, layout="layer_first"):
    return pool.make_host_pool(
        {
            "host_to_device_ratio": 2.0,
            "host_size": 0,
            "page_size": 4,
            "layout": layout,
            "pin_memory": True,
            "device": pool.device,
            "allocator_type": None,
        },
        override_kv_cache_dim=None,
    )


def test_rows_are_bytes_with_a_scale_for_32_elements(pools):
    pool = make_pool(pools)

    assert pool.k_buffer[0].shape == (28, 4, 128)
    assert pool.k_scale_buffer[0].shape == (28, 4, 4)
    assert pool.v_scale_buffer[0].shape == (28, 4, 2)
    assert {buffer.dtype for buffer in (*pool.k_buffer, *pool.v_scale_buffer)} == {torch.uint8}
    assert pool.get_key_buffer(6).dtype == torch.float8_e4m3fn


def test_all_four_planes_are_declared_and_mirrored(pools):
    pool = make_pool(pools)
    (declared,) = pool.mirrored()

    assert [plane.name for plane in declared.geometry.planes] == ["k", "v", "k_scale", "v_scale"]
    assert (declared.component, declared.owns_slots) == (ComponentType.FULL, True)
    assert declared.geometry.bytes_per_row == 2376  # 4 * (128 + 64 + 4 + 2) bytes * 3 layers
    assert make_host(pool).geometry(PoolName.KV) == declared.geometry
    assert make_host(pool).size_per_token == 2376


def test_scales_are_read_behind_the_layers_load(pools):
    pool, waited = make_pool(pools), []

    class Counter:
        def wait_until(self, threshold):
            waited.append(threshold)

    pool.register_layer_transfer_counter(Counter())
    k_scale, v_scale = pool.get_kv_scale_buffer(7)

    assert k_scale is pool.k_scale_buffer[1]
    assert v_scale is pool.v_scale_buffer[1]
    assert waited == [1]


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ("layer_first", (3, 52, 4, 4)),
        ("page_first", (52, 3, 4, 4)),
        ("page_first_direct", (13, 3, 4, 4, 4)),
    ],
)
def test_equal_scales_share_one_buffer(pools, layout, shape):
    host = make_host(make_pool(pools, v_head_dim=128), layout=layout)

    assert tuple(host.scale_buffer.shape) == (2, *shape)
    assert host.plane_buffer("v_scale").data_ptr() == host.scale_buffer[1].data_ptr()


def test_layout_of_heads_is_refused(pools):
    with pytest.raises(PoolError, match=r"unsupported layout; .* got page_head"):
        make_host(make_pool(pools), layout="page_head")


@pytest.mark.parametrize("io_backend", ["kernel", "direct"])
def test_scales_of_one_head_are_half_a_word(pools, io_backend):
    """Four bytes a row: copies by address move eight at a time, slice copies any number."""
    pool = make_pool(pools, head_num=1, v_head_dim=128)
    host = make_host(pool)
    slots = {
        "host_indices": torch.tensor([0, 1, 2, 3]),
        "device_indices": torch.tensor([4, 5, 6, 7]),
    }
    if io_backend == "direct":
        host.backup_from_device_all_layer(device_pool=pool, io_backend="direct", **slots)
        return
    with pytest.raises(TransferError, match=r"k_scale layer 0: .* got \(0, 4, 4\)"):
        host.backup_from_device_all_layer(device_pool=pool, io_backend="kernel", **slots)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": torch.bfloat16}, "dtype must be e4m3; .* got torch.bfloat16"),
        ({"dtype": torch.float8_e5m2}, "dtype must be e4m3"),
        ({"head_dim": 80}, "whole scale blocks; expected a multiple of 32, got 80"),
        ({"v_head_dim": 16}, "whole scale blocks; expected a multiple of 32, got 16"),
    ],
)
def test_rows_that_have_no_blocks_raise(pools, settings, message):
    with pytest.raises(PoolError, match=message):
        make_pool(pools, **settings)


def test_rows_have_no_width_to_override(pools):
    pool = make_pool(pools)
    with pytest.raises(AssemblyError, match="only latent rows have a width to override"):
        pool.make_host_pool({}, override_kv_cache_dim=656)


@pytest.mark.parametrize(
    ("io_backend", "layout"),
    [
        ("kernel", "layer_first"),
        ("kernel", "page_first"),
        ("direct", "layer_first"),
        ("direct", "page_first_direct"),
    ],
)
def test_rows_and_scales_come_back_in_other_slots(pools, io_backend, layout):
    pool = make_pool(pools)
    host = make_host(pool, layout=layout)
    (declared,) = pool.mirrored()
    buffers = [b for plane in declared.geometry.planes for b in declared.plane_buffers(plane.name)]
    generator = torch.Generator().manual_seed(5)
    for buffer in buffers:
        buffer.copy_(torch.randint(1, 128, buffer.shape, generator=generator, dtype=torch.uint8))
    before = [buffer.clone() for buffer in buffers]
    host_slots, source, target = torch.arange(8, 16), torch.arange(4, 12), torch.arange(16, 24)

    host.backup_from_device_all_layer(
        device_pool=pool, host_indices=host_slots, device_indices=source, io_backend=io_backend
    )
    for buffer in buffers:
        buffer.fill_(0xEE)
    for layer in range(3):
        host.load_to_device_per_layer(
            device_pool=pool,
            host_indices=host_slots,
            device_indices=target,
            layer_id=layer,
            io_backend=io_backend,
        )

    for buffer, old in zip(buffers, before, strict=True):
        expected = torch.full_like(old, 0xEE)
        expected[target] = old[source]
        assert torch.equal(buffer, expected)
