import pytest

from assembler.device_pools.linear import HybridLinearKVPool
from assembler.errors import PoolError
from assembler.names import PoolName


class Waits:
    """A counter that notes what was waited for."""

    def __init__(self):
        self.layers = []

    def wait_until(self, threshold):
        self.layers.append(threshold)


def wrap(pool, *, full_attention_layer_ids, start_layer, end_layer):
    return HybridLinearKVPool(
        full_kv_pool=pool,
        full_attention_layer_ids=full_attention_layer_ids,
        start_layer=start_layer,
        end_layer=end_layer,
    )


def test_global_layers_map_to_the_wrapped_pool(pools):
    inner = pools.mha()
    pool = wrap(inner, full_attention_layer_ids=[23, 27, 31], start_layer=20, end_layer=39)

    assert pool.full_attention_layer_id_mapping == {23: 0, 27: 1, 31: 2}
    assert pool.get_key_buffer(27) is inner.k_buffer[1]
    assert pool.get_value_buffer(31) is inner.v_buffer[2]
    assert not pool.use_mla


def test_wrapper_reports_the_wrapped_pools_size(pools):
    pool = wrap(pools.mha(), full_attention_layer_ids=[3, 7, 11], start_layer=0, end_layer=11)

    assert (pool.size, pool.page_size, pool.layer_num) == (24, 4, 3)
    assert (pool.start_layer, pool.end_layer) == (0, 11)


def test_latent_pools_can_be_wrapped(pools):
    pool = wrap(pools.nsa(), full_attention_layer_ids=[3, 7, 11], start_layer=0, end_layer=11)

    assert pool.use_mla
    rows, index = pool.mirrored()
    assert (rows.geometry.pool, index.geometry.pool) == (PoolName.KV, PoolName.INDEXER)
    assert rows.layer_mapping == index.layer_mapping == {3: 0, 7: 1, 11: 2}
    assert [buffer.shape for buffer in index.plane_buffers("index_k")] == [(7, 528)] * 3


def test_declared_rows_are_read_through_the_wrapper(pools):
    inner, waits = pools.nsa(), Waits()
    pool = wrap(inner, full_attention_layer_ids=[3, 7, 11], start_layer=0, end_layer=11)
    pool.register_layer_transfer_counter(waits)
    _, index = pool.mirrored()

    assert index.read_layer(7) is inner.index_k_with_scale_buffer[1]
    assert waits.layers == [7]


def test_readers_wait_once_with_the_stage_local_layer(pools):
    inner, waits = pools.mha(), Waits()
    pool = wrap(inner, full_attention_layer_ids=[23, 27, 31], start_layer=20, end_layer=39)
    pool.register_layer_transfer_counter(waits)

    pool.get_key_buffer(27)

    assert waits.layers == [7]
    assert inner.layer_transfer_counter is None


def test_linear_layer_has_no_keys(pools):
    pool = wrap(pools.mha(), full_attention_layer_ids=[3, 7, 11], start_layer=0, end_layer=11)

    with pytest.raises(PoolError, match=r"expected one of \[3, 7, 11\], got 4"):
        pool.get_key_buffer(4)


@pytest.mark.parametrize("layer_ids", [[3, 7], [3, 7, 7]])
def test_layer_ids_must_name_every_layer_once(pools, layer_ids):
    with pytest.raises(PoolError, match="expected 3 ids"):
        wrap(pools.mha(), full_attention_layer_ids=layer_ids, start_layer=0, end_layer=11)


def test_layer_ids_must_belong_to_the_stage(pools):
    with pytest.raises(PoolError, match="expected 0 to 10, got 11"):
        wrap(pools.mha(), full_attention_layer_ids=[3, 7, 11], start_layer=0, end_layer=10)


def test_wrapped_pool_must_be_numbered_from_zero(pools):
    inner = pools.mha(start_layer=20)

    with pytest.raises(PoolError, match="expected 0, got 20"):
        wrap(inner, full_attention_layer_ids=[23, 27, 31], start_layer=20, end_layer=39)
