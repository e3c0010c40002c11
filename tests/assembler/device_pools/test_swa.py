import pytest
import torch

from assembler.device_pools.swa import SWAKVPool
from assembler.errors import PoolError
from assembler.names import ComponentType, PoolName


class Waits:
    """A counter that notes what was waited for."""

    def __init__(self):
        self.layers = []

    def wait_until(self, threshold):
        self.layers.append(threshold)


def test_inner_pools_have_their_own_size_and_heads(pools):
    pool = pools.swa()

    assert [tuple(k.shape) for k in pool.full_kv_pool.k_buffer] == [(28, 2, 8)] * 2
    assert [tuple(k.shape) for k in pool.swa_kv_pool.k_buffer] == [(16, 4, 16)] * 3
    assert [tuple(v.shape) for v in pool.swa_kv_pool.v_buffer] == [(16, 4, 24)] * 3
    assert (pool.layer_num, pool.start_layer, pool.end_layer) == (5, 0, 4)


def test_global_layers_map_to_index_and_side(pools):
    assert pools.swa().layers_mapping == {
        0: (0, True),
        1: (0, False),
        2: (1, True),
        3: (1, False),
        4: (2, True),
    }


def test_getters_reach_the_right_inner_layer(pools):
    pool = pools.swa()

    assert pool.get_key_buffer(3) is pool.full_kv_pool.k_buffer[1]
    assert pool.get_value_buffer(4) is pool.swa_kv_pool.v_buffer[2]


def test_readers_wait_once_with_the_global_layer(pools):
    pool, waits = pools.swa(), Waits()
    pool.register_layer_transfer_counter(waits)

    pool.get_key_buffer(3)
    pool.get_value_buffer(4)

    assert waits.layers == [3, 4]
    assert pool.full_kv_pool.layer_transfer_counter is None
    assert pool.swa_kv_pool.layer_transfer_counter is None


def test_declared_geometry_is_full_and_window_pool(pools):
    full, swa = (declared.geometry for declared in pools.swa().mirrored())

    assert (full.pool, swa.pool) == (PoolName.KV, PoolName.SWA)
    assert (full.layer_num, swa.layer_num) == (2, 3)
    assert full.bytes_per_row == 128  # 2 * (8 + 8) elements * 2 bytes * 2 layers
    assert swa.bytes_per_row == 960  # 4 * (16 + 24) elements * 2 bytes * 3 layers


def test_layers_must_be_every_layer_once(pools):
    with pytest.raises(PoolError, match=r"expected 0 to 2, got full \[1\], window \[0, 1\]"):
        SWAKVPool(
            size=24,
            size_swa=12,
            page_size=4,
            dtype=torch.bfloat16,
            head_num=2,
            head_dim=8,
            v_head_dim=8,
            swa_head_num=2,
            swa_head_dim=8,
            swa_v_head_dim=8,
            swa_attention_layer_ids=[0, 1],
            full_attention_layer_ids=[1],
            device=pools.device,
        )


def test_rows_are_moved_through_the_inner_pools(pools):
    pool = pools.swa()
    full, swa = pool.mirrored()

    assert (full.device_pool, swa.device_pool) == (pool.full_kv_pool, pool.swa_kv_pool)
    assert (full.component, swa.component) == (ComponentType.FULL, ComponentType.SWA)
    assert full.layer_mapping == {1: 0, 3: 1}
    assert swa.layer_mapping == {0: 0, 2: 1, 4: 2}
    assert full.owns_slots
    assert swa.owns_slots


def test_declared_rows_are_read_through_the_wrapper(pools):
    pool, waits = pools.swa(), Waits()
    pool.register_layer_transfer_counter(waits)
    full, swa = pool.mirrored()

    assert full.read_layer(3)[0] is pool.full_kv_pool.k_buffer[1]
    assert swa.read_layer(4)[1] is pool.swa_kv_pool.v_buffer[2]
    assert waits.layers == [3, 3, 4, 4]


def test_table_is_private_and_none_until_registered(pools):
    pool = pools.swa()
    assert pool.full_to_swa_index_mapping is None

    table = torch.zeros(29, dtype=torch.int64)
    pool.register_mapping(table)

    assert pool.full_to_swa_index_mapping is table
    assert not any(
        isinstance(value, torch.Tensor) for name, value in vars(pool).items() if name[0] != "_"
    )
