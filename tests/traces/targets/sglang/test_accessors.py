"""Accessors are found by their signatures, and get arguments made from these."""

import inspect

import pytest
import torch

from traces.targets.sglang.accessors import ArgumentMaker, accessors_of
from traces.targets.sglang.held_pools import HeldPool

SLOTS, PAGE = torch.arange(64, 96), 16


class InnerPool:
    def get_workspace(self, layer, req_to_token, seq_len: int, *, layer_id_override=None):
        return req_to_token, seq_len


class Pool:
    def __init__(self):
        self.inner = InnerPool()

    def search_layer(self, layer_id):
        if layer_id:
            return None
        for part in vars(self).values():
            if part is layer_id:
                return part
        return None

    def get_key_buffer(self, layer_id: int):
        return layer_id

    def get_mla_kv_buffer(self, layer, loc: torch.Tensor, dst_dtype=None):
        return layer.layer_id, loc

    def get_workspace(self, layer, *args, **kwargs):
        return self.inner.get_workspace(layer, *args, layer_id_override=1, **kwargs)

    def layer_cache(self, layer_id):
        return layer_id

    def get_context(self, token_indices):
        return token_indices

    def get_slot_of(self, req):
        return req

    def get_size(self):
        return 1

    def set_kv_buffer(self, layer, loc, cache_k):
        return self

    def warm_layer(self, layer_id):
        def load():
            return layer_id

        self.loaded = [row for row in (load(),) if row]

    def drop_layer(self, layer_id):
        if layer_id:
            return
        self.inner = None


@pytest.fixture
def found():
    held = HeldPool(path="kv_cache", name="kv_cache", pool=Pool(), outer=())
    return {accessor.name: accessor for accessor in accessors_of(held)}


@pytest.fixture
def maker():
    return ArgumentMaker(
        slots=SLOTS, pages=SLOTS[::PAGE] // PAGE, page_size=PAGE, request_table=torch.zeros(2, 8)
    )


def test_what_takes_a_layer_or_slots_and_returns_something_is_an_accessor(found):
    assert list(found) == [
        "get_key_buffer",
        "get_mla_kv_buffer",
        "get_workspace",
        "layer_cache",
        "search_layer",
        "get_context",
        "get_slot_of",
    ]


def test_what_a_method_returns_is_read_from_the_code_that_runs():
    def found_in(body):
        names: dict[str, object] = {}
        # A method without a text on disk.
        exec(f"class Pool:\n    def of_layer(self, layer_id):\n        {body}", names)
        held = HeldPool(path="kv_cache", name="kv_cache", pool=names["Pool"](), outer=())
        return [accessor.name for accessor in accessors_of(held)]

    assert found_in("return layer_id") == ["of_layer"]
    assert found_in("return layer_id or None") == ["of_layer"]
    assert found_in("return 0 if layer_id else None") == ["of_layer"]
    assert found_in("self.last = layer_id") == []
    assert found_in("return None") == []
    assert found_in("raise NotImplementedError") == []


def test_a_layer_is_a_number_or_an_attention_layer(found, maker):
    assert found["get_key_buffer"].call(3, {}) == 3
    arguments, unknown = maker.arguments(found["get_mla_kv_buffer"])
    number, slots = found["get_mla_kv_buffer"].call(3, arguments)
    assert (number, unknown) == (3, "")
    # One slot of every page.
    assert slots.tolist() == [64, 80]


def test_what_a_wrapper_passes_on_has_the_parameters_of_the_pool_it_holds(found, maker):
    accessor = found["get_workspace"]
    assert [parameter.name for parameter in accessor.wanted] == ["req_to_token", "seq_len"]

    table, length = accessor.call(0, maker.arguments(accessor)[0])
    assert (table.shape, length) == ((2, 8), PAGE)


def test_an_argument_that_cannot_be_made_is_named(found, maker):
    assert maker.arguments(found["get_slot_of"]) == ({}, "req")
    assert maker.arguments(found["get_context"])[0]["token_indices"].tolist() == [64, 80]


def test_pages_of_a_batch_have_a_row_for_each_request(maker):
    class Index:
        def get_scales(self, layer_id, seq_len_tensor, page_indices):
            return page_indices

        def get_keys(self, layer_id, page_indices):
            return page_indices

    held = HeldPool(path="index", name="index", pool=Index(), outer=())
    keys, scales = accessors_of(held)
    assert maker.arguments(scales)[0]["page_indices"].shape == (1, 2)
    assert maker.arguments(keys)[0]["page_indices"].shape == (2,)


def test_the_label_of_a_held_pool_has_its_path():
    outer = HeldPool(path="kv_cache", name="kv_cache", pool=Pool(), outer=())
    inner = HeldPool(path="kv_cache.inner", name="inner", pool=InnerPool(), outer=(outer,))
    assert next(accessors_of(outer)).label == "get_key_buffer"
    assert next(accessors_of(inner)).label == "kv_cache.inner.get_workspace"
    assert inspect.signature(InnerPool.get_workspace).parameters["layer"].default is inspect._empty
