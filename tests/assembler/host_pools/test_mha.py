import pytest
import torch

from assembler.errors import TransferError


def back_up(host, pool, *, slots, host_slots, io_backend):
    for layer in range(3):
        generator = torch.Generator().manual_seed(layer)
        for buffer in (pool.k_buffer[layer], pool.v_buffer[layer]):
            buffer.copy_(torch.randn(buffer.shape, generator=generator))
    host.backup_from_device_all_layer(
        device_pool=pool,
        host_indices=torch.tensor(host_slots),
        device_indices=torch.tensor(slots),
        io_backend=io_backend,
    )


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ("layer_first", (2, 3, 52, 2, 8)),
        ("page_first", (2, 52, 3, 2, 8)),
        ("page_first_direct", (2, 13, 3, 4, 2, 8)),
        ("page_head", (2, 13, 2, 4, 3, 8)),
    ],
)
def test_equal_keys_and_values_share_one_buffer(pools, layout, shape):
    host = pools.mha_host(pools.mha(), layout=layout)

    assert tuple(host.kv_buffer.shape) == shape
    assert host.kv_buffer.dtype == torch.bfloat16
    assert host.k_buffer.data_ptr() == host.kv_buffer.data_ptr()
    assert host.v_buffer.data_ptr() == host.kv_buffer[1].data_ptr()


@pytest.mark.parametrize(
    ("layout", "k_shape", "v_shape"),
    [
        ("layer_first", (3, 52, 2, 8), (3, 52, 2, 20)),
        ("page_first", (52, 3, 2, 8), (52, 3, 2, 20)),
        ("page_first_direct", (13, 3, 4, 2, 8), (13, 3, 4, 2, 20)),
        ("page_head", (13, 2, 4, 3, 8), (13, 2, 4, 3, 20)),
    ],
)
def test_unequal_keys_and_values_have_two_buffers(pools, layout, k_shape, v_shape):
    host = pools.mha_host(pools.mha(v_head_dim=20), layout=layout)

    assert tuple(host.k_buffer.shape) == k_shape
    assert tuple(host.v_buffer.shape) == v_shape
    assert host.size_per_token == 336  # (2*8 + 2*20) elements * 2 bytes * 3 layers


def test_layer_first_keeps_a_slot_of_a_layer_together(pools):
    pool = pools.mha()
    host = pools.mha_host(pool, layout="layer_first")

    back_up(host, pool, slots=[9], host_slots=[5], io_backend="kernel")

    assert torch.equal(host.kv_buffer[0, 2, 5], pool.k_buffer[2][9])
    assert torch.equal(host.kv_buffer[1, 2, 5], pool.v_buffer[2][9])


def test_page_first_keeps_a_slot_of_all_layers_together(pools):
    pool = pools.mha()
    host = pools.mha_host(pool, layout="page_first")

    back_up(host, pool, slots=[9], host_slots=[5], io_backend="kernel")

    assert torch.equal(host.kv_buffer[0, 5, 2], pool.k_buffer[2][9])
    assert torch.equal(host.kv_buffer[1, 5, 2], pool.v_buffer[2][9])


def test_page_first_direct_keeps_a_page_of_a_layer_together(pools):
    pool = pools.mha()
    host = pools.mha_host(pool, layout="page_first_direct")

    back_up(host, pool, slots=[8, 9, 10, 11], host_slots=[20, 21, 22, 23], io_backend="direct")

    # Host slot 22 is slot 2 of page 5.
    assert torch.equal(host.kv_buffer[0, 5, 2, 2], pool.k_buffer[2][10])
    assert torch.equal(host.kv_buffer[1, 5, 2, 2], pool.v_buffer[2][10])


def test_page_head_keeps_a_head_of_a_page_together(pools):
    pool = pools.mha()
    host = pools.mha_host(pool, layout="page_head")

    back_up(host, pool, slots=[9], host_slots=[22], io_backend="kernel")

    for head in (0, 1):
        assert torch.equal(host.kv_buffer[0, 5, head, 2, 1], pool.k_buffer[1][9, head])
        assert torch.equal(host.kv_buffer[1, 5, head, 2, 1], pool.v_buffer[1][9, head])


def test_page_first_direct_moves_whole_pages_only(pools):
    pool = pools.mha()
    host = pools.mha_host(pool, layout="page_first_direct")

    with pytest.raises(TransferError, match="expected slot 4 at position 0, got slot 5"):
        back_up(host, pool, slots=[5, 6, 7, 8], host_slots=[0, 1, 2, 3], io_backend="direct")
    with pytest.raises(TransferError, match="expected a multiple of 4 slots, got 2"):
        back_up(host, pool, slots=[4, 5], host_slots=[0, 1], io_backend="direct")


def test_override_is_not_an_argument(pools):
    """An MHA host has no row width to override: the keyword is an error, not ignored."""
    with pytest.raises(TypeError, match="override_kv_cache_dim"):
        type(pools.mha_host(pools.mha()))(override_kv_cache_dim=656)
