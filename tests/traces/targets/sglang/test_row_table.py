"""Rows of buffers and moves by address: what a release moves in pages, slots or heads are rows."""

from types import SimpleNamespace

import pytest
import torch

from traces.targets.common.planes import SlotDomain, planes_of
from traces.targets.sglang.memory_map import MemoryMap
from traces.targets.sglang.row_table import RowTable

PAGE, SLOTS, ROW = 4, 32, 24


@pytest.fixture
def pool():
    rows = [torch.zeros(SLOTS + PAGE, 1, ROW, dtype=torch.uint8) for _ in range(2)]
    return SimpleNamespace(kv_buffer=rows)


@pytest.fixture
def table(pool):
    memory = MemoryMap()
    memory.learn(pool)
    table = RowTable(memory)
    domain = SlotDomain(name="KV", slot_num=SLOTS, page_size=PAGE)
    table.learn(planes_of("KV", pool, domain, host=None, taken=set()))
    table.memory = memory
    return table


def moved(table, tensor, *, stride, row_bytes, rows):
    address = tensor.data_ptr()
    place = table.memory.place(address, row_stride=stride)
    return table.moved(
        place, address=address, stride=stride, row_bytes=row_bytes, rows=torch.tensor(rows)
    )


def test_buffers_have_their_plane_layer_and_width(table, pool):
    found = table.of_device_buffer(pool.kv_buffer[1].data_ptr())

    assert (found.pool, found.planes, found.layer) == ("KV", ("kv_buffer",), 1)
    assert (found.row_bytes, found.slots_per_row) == (ROW, 1)
    assert table.of_device_buffer(1) is None


def test_states_of_all_layers_are_one_buffer_of_no_layer():
    states = torch.zeros(2, SLOTS + 1, 3, 8, dtype=torch.uint8)
    memory = MemoryMap()
    owner = SimpleNamespace(temporal=states)
    memory.learn(owner)
    table = RowTable(memory)
    domain = SlotDomain(name="MAMBA", slot_num=SLOTS, page_size=1)
    table.learn(planes_of("MAMBA", owner, domain, host=None, taken=set()))

    found = table.of_device_buffer(states.data_ptr())
    assert (found.planes, found.layer, found.row_bytes) == (("temporal",), None, 24)


@pytest.mark.parametrize(
    ("stride", "row_bytes", "rows", "num"),
    [
        (ROW, ROW, [4, 5, 6, 7], 4),
        (PAGE * ROW, PAGE * ROW, [1, 2], 2 * PAGE),
        (ROW, PAGE * ROW, [4, 8], 2 * PAGE),
        (ROW // 4, ROW // 4, [16, 17, 18, 19, 20, 21, 22, 23], 2),
    ],
    ids=["rows", "page numbers", "page starts", "quarters of rows"],
)
def test_moves_count_whole_rows_of_the_buffer(table, pool, stride, row_bytes, rows, num):
    found = moved(table, pool.kv_buffer[1], stride=stride, row_bytes=row_bytes, rows=rows)

    assert (found.pool, found.plane, found.layer, found.num) == ("KV", "kv_buffer", 1, num)
    assert num * ROW == len(rows) * row_bytes


@pytest.mark.parametrize(
    ("stride", "row_bytes", "rows"),
    [(20, 20, [4, 5]), (ROW, 2 * ROW, [4, 5])],
    ids=["narrower rows", "rows that overlap"],
)
def test_moves_of_other_widths_do_not_add_up(table, pool, stride, row_bytes, rows):
    """Their bytes are not those of the rows counted: what conservation reports."""
    found = moved(table, pool.kv_buffer[0], stride=stride, row_bytes=row_bytes, rows=rows)

    assert found.num * ROW != len(rows) * row_bytes


@pytest.mark.parametrize(
    "shape", [(2, 40, 1, ROW), (40, 2, 1, ROW), (10, 2, 4, 1, ROW)], ids=["layer", "page", "direct"]
)
def test_host_rows_are_found_in_every_layout(table, shape):
    host = SimpleNamespace(kv_buffer=torch.zeros(shape, dtype=torch.uint8), layout="any")
    table.name_host_pool(host, "KV")

    found = table.of_host_pool(host)(host.kv_buffer.data_ptr())
    assert (found.planes, found.row_bytes, found.slots_per_row) == (("kv_buffer",), ROW, 1)


def test_host_rows_of_another_width_are_told_by_the_last_two_axes(table):
    host = SimpleNamespace(kv_buffer=torch.zeros(2, 40, 1, 20, dtype=torch.uint8), layout="any")
    table.name_host_pool(host, "KV")

    found = table.of_host_pool(host)(host.kv_buffer.data_ptr())
    assert (found.planes, found.row_bytes) == ((), 20)


def test_layouts_that_split_rows_by_head_and_foreign_lists_have_no_host_rows(table):
    split = SimpleNamespace(kv_buffer=torch.zeros(2, 40, 1, ROW, dtype=torch.uint8))
    split.layout = "page_head"
    table.name_host_pool(split, "KV")
    assert table.of_host_pool(split)(split.kv_buffer.data_ptr()) is None

    lists = SimpleNamespace(device_buffers=[torch.zeros(40, 1, 20, dtype=torch.uint8)], layout="x")
    table.name_host_pool(lists, "KV")
    assert table.of_host_pool(lists)(lists.device_buffers[0].data_ptr()) is None
