import pytest
import torch

from assembler.device_pools.nsa import NSATokenToKVPool, nsa_kv_cache_dim
from assembler.errors import PoolError
from assembler.names import PoolName


@pytest.mark.parametrize(
    ("dtype", "width"),
    [
        (torch.float8_e4m3fn, 656),  # 512 + 4 * 4 + 64 * 2
        (torch.float8_e5m2, 576),
        (torch.bfloat16, 576),  # 512 + 64
    ],
)
def test_row_width_depends_on_the_dtype(dtype, width):
    assert width == nsa_kv_cache_dim(
        kv_lora_rank=512, qk_rope_head_dim=64, dtype=dtype, quant_block_size=128
    )


def test_latent_part_must_be_whole_blocks():
    with pytest.raises(PoolError, match="expected a multiple of 128, got 500"):
        nsa_kv_cache_dim(
            kv_lora_rank=500,
            qk_rope_head_dim=64,
            dtype=torch.float8_e4m3fn,
            quant_block_size=128,
        )


def test_float8_rows_are_656_bytes_with_index_pages_beside_them(pools):
    pool = pools.nsa()

    assert pool.kv_cache_dim == 656
    assert [tuple(kv.shape) for kv in pool.kv_buffer] == [(28, 1, 656)] * 3
    assert pool.kv_buffer[0].dtype == torch.uint8
    # (24 + 4 + 1) // 4 pages of 4 * 132 bytes.
    shapes = [tuple(pages.shape) for pages in pool.index_k_with_scale_buffer]
    assert shapes == [(7, 528)] * 3
    assert pool.index_k_with_scale_buffer[0].dtype == torch.uint8


def test_bfloat16_rows_are_1152_bytes(pools):
    pool = pools.nsa(dtype=torch.bfloat16, kv_cache_dim=576)

    assert pool.kv_cache_dim == 576
    assert pool.mirrored()[0].geometry.planes[0].row_bytes == 1152


def test_flat_float8_rows_are_576_bytes(pools):
    pool = pools.nsa(kv_cache_dim=576)

    assert pool.mirrored()[0].geometry.planes[0].row_bytes == 576


def test_width_that_the_dtype_cannot_have_raises(pools):
    with pytest.raises(
        PoolError, match=r"kv_cache_dim must fit torch\.bfloat16; expected 576, got 656"
    ):
        pools.nsa(dtype=torch.bfloat16, kv_cache_dim=656)


def test_index_head_must_be_one_block(pools):
    with pytest.raises(PoolError, match="expected 128, got 64"):
        NSATokenToKVPool(
            size=24,
            page_size=4,
            dtype=torch.float8_e4m3fn,
            kv_lora_rank=512,
            qk_rope_head_dim=64,
            layer_num=1,
            device=pools.device,
            start_layer=0,
            end_layer=0,
            index_head_dim=64,
            kv_cache_dim=656,
            index_buf_size=24,
        )


def test_declared_geometry_is_rows_and_index_pages(pools):
    rows, index = (declared.geometry for declared in pools.nsa().mirrored())

    assert (rows.pool, index.pool) == (PoolName.KV, PoolName.INDEXER)
    assert rows.planes[0].row_bytes == 656
    assert index.planes[0].row_bytes == 528
    assert (rows.slots_per_row, index.slots_per_row) == (1, 4)
    assert (rows.layer_num, index.layer_num) == (3, 3)


def test_index_getter_takes_global_layer_ids(pools):
    pool = pools.nsa(start_layer=5)

    assert pool.get_index_k_with_scale_buffer(6) is pool.index_k_with_scale_buffer[1]
    assert pool.plane_buffer(plane="index_k", layer=1) is pool.index_k_with_scale_buffer[1]


def test_unknown_plane_raises(pools):
    with pytest.raises(PoolError, match="expected kv or index_k, got k"):
        pools.nsa().plane_buffer(plane="k", layer=0)
