import pytest
import torch

from assembler.device_pools.mha import MHATokenToKVPool
from assembler.errors import PoolError
from assembler.names import PoolName


class Waits:
    """A counter that notes what was waited for."""

    def __init__(self):
        self.layers = []

    def wait_until(self, threshold):
        self.layers.append(threshold)


def test_buffers_hold_one_page_more_than_the_slots(pools):
    pool = pools.mha(v_head_dim=4)

    assert [tuple(k.shape) for k in pool.k_buffer] == [(28, 2, 8)] * 3  # 24 + 4 rows
    assert [tuple(v.shape) for v in pool.v_buffer] == [(28, 2, 4)] * 3
    assert pool.k_buffer[0].dtype == torch.bfloat16


def test_float8_is_stored_as_bytes_and_read_as_float8(pools):
    pool = pools.mha(dtype=torch.float8_e5m2)

    assert pool.store_dtype == torch.uint8
    assert pool.k_buffer[0].dtype == torch.uint8
    assert pool.get_key_buffer(0).dtype == torch.float8_e5m2
    assert pool.get_key_buffer(0).data_ptr() == pool.k_buffer[0].data_ptr()


def test_getters_take_global_layer_ids(pools):
    pool = pools.mha(start_layer=10)

    keys, values = pool.get_kv_buffer(11)

    assert keys is pool.k_buffer[1]
    assert values is pool.v_buffer[1]


@pytest.mark.parametrize("layer_id", [9, 13, 0])
def test_layer_of_another_stage_raises(pools, layer_id):
    pool = pools.mha(start_layer=10)

    with pytest.raises(PoolError, match=f"stage; expected 10 to 12, got {layer_id}"):
        pool.get_key_buffer(layer_id)


def test_getters_wait_for_the_stage_local_layer(pools):
    pool, waits = pools.mha(start_layer=10), Waits()
    pool.register_layer_transfer_counter(waits)

    pool.get_key_buffer(11)
    pool.get_value_buffer(12)
    pool.get_kv_buffer(10)

    assert waits.layers == [1, 2, 0, 0]


def test_transfers_do_not_wait(pools):
    pool, waits = pools.mha(), Waits()
    pool.register_layer_transfer_counter(waits)

    assert pool.plane_buffer(plane="k", layer=2) is pool.k_buffer[2]
    assert pool.plane_buffer(plane="v", layer=2) is pool.v_buffer[2]
    assert waits.layers == []


def test_unknown_plane_raises(pools):
    with pytest.raises(PoolError, match="unknown plane; expected k or v, got kv"):
        pools.mha().plane_buffer(plane="kv", layer=0)


def test_layer_range_must_hold_every_layer(pools):
    with pytest.raises(PoolError, match="expected 3, got 4"):
        MHATokenToKVPool(
            size=24,
            page_size=4,
            dtype=torch.bfloat16,
            head_num=2,
            head_dim=8,
            v_head_dim=8,
            layer_num=3,
            device=pools.device,
            start_layer=0,
            end_layer=3,
        )


def test_declared_geometry_names_keys_and_values(pools):
    (declared,) = pools.mha(v_head_dim=4).mirrored()
    geometry = declared.geometry

    assert geometry.pool is PoolName.KV
    assert [(plane.name, plane.row_shape) for plane in geometry.planes] == [
        ("k", (2, 8)),
        ("v", (2, 4)),
    ]
    assert geometry.layer_num == 3
    assert geometry.slots_per_row == 1
    assert geometry.bytes_per_row == 144  # (2*8 + 2*4) elements * 2 bytes * 3 layers
