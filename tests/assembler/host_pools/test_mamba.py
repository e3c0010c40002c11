import pytest
import torch

from assembler.errors import PoolError
from assembler.names import PoolName


@pytest.mark.parametrize(
    ("layout", "temporal", "convolutions"),
    [
        ("layer_first", (3, 49, 2, 4, 8), [(3, 49, 8, 3), (3, 49, 2, 4)]),
        ("page_first", (49, 3, 1, 2, 4, 8), [(49, 3, 1, 8, 3), (49, 3, 1, 2, 4)]),
        ("page_first_direct", (49, 3, 1, 2, 4, 8), [(49, 3, 1, 8, 3), (49, 3, 1, 2, 4)]),
    ],
)
def test_buffer_shapes(pools, layout, temporal, convolutions):
    host = pools.mamba_host(pools.mamba(), layout=layout)

    assert tuple(host.temporal_buffer.shape) == temporal
    assert host.temporal_buffer.dtype == torch.float32
    assert [tuple(buffer.shape) for buffer in host.conv_buffer] == convolutions
    assert {buffer.dtype for buffer in host.conv_buffer} == {torch.bfloat16}


def test_pages_are_single_slots_and_one_is_added(pools):
    host = pools.mamba_host(pools.mamba())

    assert (host.size, host.page_num, host.page_size) == (49, 49, 1)  # 24 * 2 + 1
    assert host.alloc(3).tolist() == [0, 1, 2]
    assert host.size_per_token == 960  # (256 + 48 + 16) * 3 layers


def test_page_head_is_not_a_layout_of_states(pools):
    with pytest.raises(PoolError, match="got page_head"):
        pools.mamba_host(pools.mamba(), layout="page_head")


def test_host_and_device_geometry_agree(pools):
    pool = pools.mamba()

    assert pools.mamba_host(pool).geometry(PoolName.MAMBA) == pool.mirrored()[0].geometry


def test_all_states_of_a_slot_move(pools):
    pool = pools.mamba()
    for index, state in enumerate([pool.temporal, *pool.conv]):
        generator = torch.Generator().manual_seed(index)
        state.copy_(torch.randn(state.shape, generator=generator))
    host = pools.mamba_host(pool, layout="page_first")

    host.backup_from_device_all_layer(
        device_pool=pool,
        host_indices=torch.tensor([7]),
        device_indices=torch.tensor([5]),
        io_backend="kernel",
    )

    for layer in range(3):
        assert torch.equal(host.temporal_buffer[7, layer, 0], pool.temporal[layer, 5])
        assert torch.equal(host.conv_buffer[0][7, layer, 0], pool.conv[0][layer, 5])
        assert torch.equal(host.conv_buffer[1][7, layer, 0], pool.conv[1][layer, 5])
