"""Addresses lead back to pools, planes and layers."""

from types import SimpleNamespace

import pytest
import torch

from traces.targets.common.pool_buffers import buffers_of
from traces.targets.sglang.memory_map import MemoryMap, is_stacked


class Pool:
    """Two layers of K, one index table, states with the layer on the first axis."""

    def __init__(self) -> None:
        self.k_buffer = [torch.zeros(8, 2, 4) for _ in range(2)]
        self.free_slots = torch.arange(8)
        self.data_ptrs = torch.tensor([one.data_ptr() for one in self.k_buffer])
        self.temporal = torch.zeros(3, 6, 5)
        self.views = [self.temporal[0], self.temporal[1]]


def names(pool):
    return [buffer.name for buffer in buffers_of(pool)]


def test_buffers_are_what_has_rows_each_memory_once():
    assert names(Pool()) == ["k_buffer[0]", "k_buffer[1]", "temporal"]


def test_plain_name_of_shared_memory_counts_whatever_its_alphabetical_place():
    pool = SimpleNamespace(a_refs=None, kv_buffer=torch.zeros(8, 4))
    pool.a_refs = [pool.kv_buffer[:]]

    assert names(pool) == ["kv_buffer"]


def test_memory_behind_a_foreign_object_is_not_the_pools():
    pool = Pool()
    pool.other = SimpleNamespace(buffer=torch.zeros(4, 4))

    assert "other.buffer" not in names(pool)


def test_address_of_a_layer_of_its_own_gives_plane_and_layer():
    pool, memory = Pool(), MemoryMap()
    memory.learn(pool)
    row_bytes = 2 * 4 * 4

    place = memory.place(pool.k_buffer[1].data_ptr(), row_stride=row_bytes)

    assert (place.plane, place.layer, place.buffer.pool) == ("k_buffer", 1, pool)


def test_address_inside_stacked_layers_gives_the_layer_by_its_distance():
    pool, memory = Pool(), MemoryMap()
    memory.learn(pool)

    place = memory.place(pool.temporal[2].data_ptr(), row_stride=5 * 4)

    assert (place.plane, place.layer) == ("temporal", 2)


@pytest.mark.parametrize("offset", [-1, 8 * 2 * 4 * 4])
def test_address_beside_every_buffer_is_nobodys(offset):
    pool = SimpleNamespace(only=torch.zeros(8, 2, 4))
    memory = MemoryMap()
    memory.learn(pool)

    assert memory.find(pool.only.data_ptr() + offset) is None
    assert memory.find(pool.only.data_ptr()) is not None


def test_rows_are_stacked_only_if_their_stride_is_that_of_the_second_axis():
    states = torch.zeros(3, 6, 5)

    assert is_stacked(states, row_stride=5 * 4)
    assert not is_stacked(states, row_stride=6 * 5 * 4)
    assert not is_stacked(torch.zeros(6, 5), row_stride=5 * 4)


def test_views_of_known_memory_in_another_pool_stay_the_first_pools():
    states, memory = Pool(), MemoryMap()
    host = SimpleNamespace(layers=[states.temporal[1], states.temporal[2]], own=torch.zeros(4, 4))
    memory.learn(states)
    memory.learn(host)

    assert memory.find(states.temporal[2].data_ptr()).pool is states
    assert memory.find(host.own.data_ptr()).pool is host
