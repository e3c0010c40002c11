"""Addresses lead back to pools, planes and layers."""

from types import SimpleNamespace

import pytest
import torch

from traces.targets.common.pool_buffers import buffers_of
from traces.targets.sglang.memory_map import MemoryMap, is_stacked
from traces.targets.sglang.shims.kernel_moves import CopiedRows


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


def numbered(pool, tensor, rows, *, stride, row_bytes):
    """Return address, stride and numbers of rows whose first one is where a tensor begins."""
    memory = MemoryMap()
    memory.learn(pool)
    copied = CopiedRows(address=tensor.data_ptr(), stride=stride, rows=torch.tensor(rows))
    found = memory.numbered(copied, row_bytes=row_bytes)
    return found.address, found.stride, found.rows.tolist()


def test_rows_that_are_counted_from_the_first_get_the_numbers_of_their_layer():
    pool, row = Pool(), 5 * 4
    layer = pool.temporal[2]
    start = layer.data_ptr()
    # Slots 1 and 5 of the third layer: four rows apart.
    assert numbered(pool, layer[1], [0, 1], stride=4 * row, row_bytes=row) == (start, row, [1, 5])
    assert numbered(pool, layer[4], [0], stride=row, row_bytes=row) == (start, row, [4])


def test_rows_of_a_layer_of_its_own_get_its_numbers():
    pool, row = Pool(), 2 * 4 * 4
    layer = pool.k_buffer[1]
    expected = (layer.data_ptr(), row, [2, 6])
    assert numbered(pool, layer[2], [0, 1], stride=4 * row, row_bytes=row) == expected


def test_rows_of_a_pool_that_keeps_the_layers_of_a_slot_together_get_its_slots():
    pool = SimpleNamespace(buffer=torch.zeros(6, 3, 5), layout="page_first_direct")
    slot, row = 3 * 5 * 4, 5 * 4
    place = pool.buffer[4, 1]
    expected = (pool.buffer[0, 1].data_ptr(), slot, [4])
    assert numbered(pool, place, [0], stride=row, row_bytes=row) == expected
    # Without that layout the first axis is the layer.
    pool.layout = "layer_first"
    assert numbered(pool, place, [0], stride=row, row_bytes=row)[2] == [1]


def test_rows_that_are_no_rows_of_a_buffer_keep_their_numbers():
    pool, row = Pool(), 2 * 4 * 4
    start = pool.k_buffer[0][4:].data_ptr()
    page = numbered(pool, pool.k_buffer[0][4:], [0], stride=4 * row, row_bytes=4 * row)
    assert page == (start, 4 * row, [0])
    odd = numbered(pool, pool.k_buffer[0][4:], [0, 1], stride=6, row_bytes=4)
    assert odd == (start, 6, [0, 1])
    other = torch.zeros(4)
    assert numbered(pool, other, [0], stride=4, row_bytes=4) == (other.data_ptr(), 4, [0])
