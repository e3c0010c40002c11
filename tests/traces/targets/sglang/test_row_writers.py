"""Setters of pools are called for every layer, and what they write is seen wherever it lies."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from traces.targets.common.planes import SlotDomain, planes_of
from traces.targets.sglang.held_pools import HeldPool
from traces.targets.sglang.row_writers import RowWriters

PAGE = 4
SLOTS = 20
LAYERS = 3
FIRST = 10


@dataclass
class WriteLoc:
    loc: torch.Tensor
    swa_loc: torch.Tensor | None = None
    physical: bool = False


class Pool:
    """Layers 10 to 12, two heads of four; ``fault`` names what is wrong with its setters."""

    head_num, head_dim, start_layer, fault = 2, 4, FIRST, ""

    def __init__(self):
        shape = (SLOTS + PAGE, self.head_num, self.head_dim)
        self.k_buffer = [torch.zeros(shape) for _ in range(LAYERS)]
        self.v_buffer = [torch.zeros(shape) for _ in range(LAYERS)]

    def set_kv_buffer(self, layer, loc_info: WriteLoc, cache_k, cache_v, k_scale=None):
        number = layer.layer_id - (0 if self.fault == "first layer" else self.start_layer)
        loc = loc_info.swa_loc if self.fault == "windows" else loc_info.loc
        if self.fault == "swapped":
            cache_k, cache_v = cache_v, cache_k
        self.k_buffer[number][loc] = cache_k.float()
        if self.fault != "no values":
            self.v_buffer[number][loc] = cache_v.float()

    def set_positions(self, slots, positions):
        raise AssertionError("is never called")

    def set_window_rows(self, layer_id: int, loc, cache_k, swa_loc=None):
        self.k_buffer[layer_id - self.start_layer][loc if swa_loc is None else swa_loc, 0] = 1.0

    def set_window(self, size):
        raise AssertionError("takes no slots")

    def set_rows_of_layer(self, layer_id: int, loc, cache_k):
        if layer_id != FIRST + 1:
            raise KeyError("no such layer")
        raise ValueError("this layer takes no rows")


class Wrapper:
    """Forwards to the pool it holds, which knows the shapes."""

    def __init__(self, pool):
        self.full_kv_pool = pool

    def set_kv_buffer(self, layer, loc_info, cache_k, cache_v):
        inner = SimpleNamespace(layer_id=layer.layer_id + FIRST - 3)
        self.full_kv_pool.set_kv_buffer(inner, loc_info, cache_k, cache_v)


def written(pool, *, fault="", outer=None):
    """Records of the setters of a pool, by name."""
    pool.fault = fault
    domain = SlotDomain(name="KV", slot_num=SLOTS, page_size=PAGE)
    planes = tuple(planes_of("KV", pool, domain, host=None, taken=set()))
    held = HeldPool(path="kv_cache", name="kv_cache", pool=outer or pool, outer=())
    records = RowWriters(planes, {id(held.pool): domain}).write_all([held])
    return {one.method: one for one in records}


def places(record):
    return [(one.plane, one.layers, one.slots) for one in record.rows]


def test_rows_of_every_layer_are_written_at_their_slots():
    record = written(Pool())["set_kv_buffer"]
    assert places(record) == [
        ("KV.k_buffer", "0-2", "4,7-8"),
        ("KV.v_buffer", "0-2", "4,7-8"),
    ]
    assert (record.holder, record.step, record.reason) == ("kv_cache", "writes", "")
    assert written(Pool())["set_kv_buffer"] == record


@pytest.mark.parametrize("fault", ["first layer", "windows", "no values"])
def test_rows_at_another_place_differ(fault):
    right, wrong = (written(Pool(), fault=one)["set_kv_buffer"] for one in ("", fault))
    assert places(right) != places(wrong)


def test_keys_in_the_place_of_values_differ_by_content_alone():
    right, wrong = (written(Pool(), fault=one)["set_kv_buffer"] for one in ("", "swapped"))
    assert places(right) == places(wrong)
    assert [one.content for one in right.rows] != [one.content for one in wrong.rows]


def test_slots_are_given_where_a_setter_need_not_take_them():
    record = written(Pool())["set_window_rows"]
    assert places(record) == [("KV.k_buffer", "0-2", "8,11-12")]


def test_what_lay_in_a_row_before_is_no_content():
    pool = Pool()
    for rows in (*pool.k_buffer, *pool.v_buffer):
        rows.fill_(3)
    assert written(pool) == written(Pool())


def test_a_wrapper_takes_the_rows_of_the_pool_that_it_holds(monkeypatch):
    # What a pool of the release holds is of the release too.
    monkeypatch.setattr(Pool, "__module__", "sglang.pools")
    pool = Pool()
    record = written(pool, outer=Wrapper(pool))["set_kv_buffer"]
    assert [one.layers for one in record.rows] == ["0-2", "0-2"]


def test_what_could_not_be_called_says_why():
    records = written(Pool())
    assert set(records) == {
        "set_kv_buffer",
        "set_positions",
        "set_rows_of_layer",
        "set_window_rows",
    }
    assert records["set_positions"].reason == "takes positions, which is not known"
    assert {one.method: one.unknown for one in records.values() if one.unknown} == {
        "set_positions": "positions"
    }
    assert records["set_rows_of_layer"].reason == "ValueError: this layer takes no rows"
