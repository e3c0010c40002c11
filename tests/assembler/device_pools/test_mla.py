import pytest
import torch

from assembler.errors import PoolError
from assembler.names import PoolName


def test_row_is_latent_and_rotary_part(pools):
    pool = pools.mla()

    assert pool.kv_cache_dim == 576  # 512 + 64
    assert [tuple(kv.shape) for kv in pool.kv_buffer] == [(28, 1, 576)] * 3


@pytest.mark.parametrize(
    ("dtype", "use_nsa", "override", "width"),
    [
        (torch.float8_e4m3fn, True, 656, 656),
        (torch.float8_e4m3fn, True, None, 576),
        (torch.float8_e4m3fn, False, 656, 576),
        (torch.float8_e5m2, True, 656, 576),
        (torch.bfloat16, True, 656, 576),
    ],
)
def test_override_counts_for_sparse_float8_only(pools, dtype, use_nsa, override, width):
    pool = pools.mla(dtype=dtype, use_nsa=use_nsa, override_kv_cache_dim=override)

    assert pool.kv_cache_dim == width


def test_values_are_the_latent_part_of_the_keys(pools):
    pool = pools.mla()

    keys, values = pool.get_kv_buffer(1)

    assert keys is pool.kv_buffer[1]
    assert values.shape == (28, 1, 512)
    assert values.data_ptr() == keys.data_ptr()


def test_unknown_plane_raises(pools):
    assert pools.mla().plane_buffer(plane="kv", layer=0).shape == (28, 1, 576)
    with pytest.raises(PoolError, match="expected kv, got k"):
        pools.mla().plane_buffer(plane="k", layer=0)


def test_declared_geometry_is_one_plane(pools):
    (declared,) = pools.mla().mirrored()
    geometry = declared.geometry

    assert geometry.pool is PoolName.KV
    assert [plane.name for plane in geometry.planes] == ["kv"]
    assert geometry.bytes_per_row == 3456  # 576 * 2 bytes * 3 layers
