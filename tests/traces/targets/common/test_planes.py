"""Which buffers have a row for every slot, and how many slots share one."""

from types import SimpleNamespace

import pytest
import torch

from traces.targets.common.planes import SlotDomain, planes_of

TOKENS = SlotDomain(name="KV", slot_num=256, page_size=64)
STATES = SlotDomain(name="MAMBA", slot_num=6, page_size=1)


def planes(pool, domain=TOKENS, host=None):
    return {
        plane.name: (len(plane.layers), plane.layers[0].slots_per_row)
        for plane in planes_of("KV", pool, domain, host=host, taken=set())
    }


class Pinned(torch.Tensor):
    """Host memory that says it is page-locked."""

    def is_pinned(self):
        return True


def host_of(*shapes, size, cls=Pinned):
    return SimpleNamespace(size=size, kv_buffer=[torch.zeros(s).as_subclass(cls) for s in shapes])


def test_token_rows_and_page_rows_of_one_pool():
    pool = SimpleNamespace(
        kv_buffer=[torch.zeros(320, 1, 4) for _ in range(3)],
        index_k=[torch.zeros(5, 64, 2) for _ in range(3)],
    )

    assert planes(pool) == {"KV.kv_buffer": (3, 1), "KV.index_k": (3, 64)}


def test_compressed_rows_hold_a_part_of_a_page():
    assert planes(SimpleNamespace(compressed=[torch.zeros(80, 1, 4)])) == {"KV.compressed": (1, 4)}


def test_layers_on_the_first_axis_are_taken_apart():
    pool = SimpleNamespace(temporal=torch.zeros(4, 7, 3), conv=[torch.zeros(4, 7, 2)] * 1)

    assert planes(pool, STATES) == {"KV.temporal": (4, 1), "KV.conv": (4, 1)}


def test_several_stacked_buffers_of_one_name_are_numbered_planes():
    pool = SimpleNamespace(conv=[torch.zeros(4, 7, 2), torch.zeros(4, 7, 3)])

    assert list(planes(pool, STATES)) == ["KV.conv_0", "KV.conv_1"]


def test_memory_that_slots_do_not_number_is_left_out():
    pool = SimpleNamespace(
        too_few=torch.zeros(3, 4), too_many=torch.zeros(4096, 4), kv_buffer=torch.zeros(320, 4)
    )

    assert list(planes(pool)) == ["KV.kv_buffer"]


SPARE = SimpleNamespace(kv_buffer=[torch.zeros(400, 8) for _ in range(2)])


@pytest.mark.parametrize("shapes", [[(10, 2, 1, 8)], [(10, 1, 8), (10, 1, 8)]])
def test_rows_to_spare_are_numbered_as_in_the_host_pool(shapes):
    """Ten pages of 64 slots on the host, a row for each page and layer."""
    assert planes(SPARE, host=host_of(*shapes, size=640)) == {"KV.kv_buffer": (2, 64)}


@pytest.mark.parametrize(
    "host",
    [
        None,
        SimpleNamespace(),
        host_of((10, 2, 1, 16), size=640),
        host_of((10, 2, 1, 8), size=640, cls=torch.Tensor),
        host_of((10, 2, 1, 8), size=650),
    ],
    ids=["none", "no size", "wider rows", "not page-locked", "no whole slots"],
)
def test_rows_to_spare_that_no_host_pool_numbers_are_left_out(host):
    """Control."""
    assert planes(SPARE, host=host) == {}


def test_buffer_that_belongs_to_another_pool_is_left_out():
    mine, shared = torch.zeros(320, 4), torch.zeros(320, 4)
    pool = SimpleNamespace(mine=mine, shared=shared)

    found = planes_of("KV", pool, TOKENS, host=None, taken={shared.data_ptr()})

    assert [plane.name for plane in found] == ["KV.mine"]
