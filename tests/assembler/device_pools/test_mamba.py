import pytest
import torch

from assembler.allocators.base import MambaSlotAllocator
from assembler.allocators.requests import HybridReqToTokenPool
from assembler.errors import PoolError
from assembler.names import PoolName


class Waits:
    """A counter that notes what was waited for."""

    def __init__(self):
        self.layers = []

    def wait_until(self, threshold):
        self.layers.append(threshold)


def new_request_pool(pools, pool, *, mamba_layer_ids, start_layer):
    return HybridReqToTokenPool(
        size=4,
        mamba_pool=pool,
        mamba_allocator=MambaSlotAllocator(size=24, pool=pool, device=pools.device),
        mamba_layer_ids=mamba_layer_ids,
        start_layer=start_layer,
        device=pools.device,
    )


def test_states_have_one_slot_for_padding(pools):
    pool = pools.mamba()

    assert pool.temporal.shape == (3, 25, 2, 4, 8)
    assert pool.temporal.dtype == torch.float32
    assert [tuple(conv.shape) for conv in pool.conv] == [(3, 25, 8, 3), (3, 25, 2, 4)]
    assert pool.conv[0].dtype == torch.bfloat16
    assert (pool.layer_num, pool.page_size, pool.size) == (3, 1, 24)


def test_declared_geometry_is_temporal_state_then_convolutions(pools):
    (states,) = pools.mamba().mirrored()
    geometry = states.geometry

    assert geometry.pool is PoolName.MAMBA
    assert [(plane.name, plane.row_bytes) for plane in geometry.planes] == [
        ("temporal", 256),  # 2 * 4 * 8 elements * 4 bytes
        ("conv_0", 48),  # 8 * 3 elements * 2 bytes
        ("conv_1", 16),  # 2 * 4 elements * 2 bytes
    ]
    assert geometry.bytes_per_row == 960  # 320 * 3 layers


def test_planes_are_one_layer_of_a_state(pools):
    pool = pools.mamba()
    pool.conv[1][2].fill_(3)

    assert pool.plane_buffer(plane="conv_1", layer=2).eq(3).all()
    assert pool.plane_buffer(plane="conv_1", layer=1).eq(0).all()
    assert pool.plane_buffer(plane="temporal", layer=0).shape == (25, 2, 4, 8)


def test_unknown_plane_raises(pools):
    with pytest.raises(PoolError, match="expected temporal or conv_0 or conv_1, got conv_2"):
        pools.mamba().plane_buffer(plane="conv_2", layer=0)


def test_clearing_no_slot_changes_nothing(pools):
    pool = pools.mamba()
    pool.temporal.fill_(1)

    pool.clear_slots(torch.tensor([], dtype=torch.int64))

    assert pool.temporal.eq(1).all()


def test_requests_read_states_by_global_layer_and_wait_for_the_stage_local_one(pools):
    pool, waits = pools.mamba(), Waits()
    pool.temporal[1].fill_(2)
    pool.conv[0][1].fill_(3)
    requests = new_request_pool(pools, pool, mamba_layer_ids=[10, 12, 15], start_layer=10)
    requests.register_layer_transfer_counter(waits)

    convolutions, temporal = requests.mamba2_layer_cache(12)

    assert requests.mamba_map == {10: 0, 12: 1, 15: 2}
    assert temporal.eq(2).all()
    assert convolutions[0].eq(3).all()
    assert waits.layers == [2]


def test_layer_without_a_state_raises(pools):
    requests = new_request_pool(pools, pools.mamba(), mamba_layer_ids=[0, 2, 5], start_layer=0)

    with pytest.raises(PoolError, match=r"expected one of \[0, 2, 5\], got 1"):
        requests.mamba2_layer_cache(1)


def test_layer_ids_must_name_every_state_layer(pools):
    with pytest.raises(PoolError, match=r"expected 3 ids, got \[0, 2\]"):
        new_request_pool(pools, pools.mamba(), mamba_layer_ids=[0, 2], start_layer=0)
