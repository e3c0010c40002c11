"""What pools answer about their memory is read as places in their buffers."""

import numpy as np
import pytest
import torch

from traces.schema.pools import ByteRange
from traces.targets.common.planes import SlotDomain, planes_of
from traces.targets.sglang.held_pools import HeldPool
from traces.targets.sglang.pool_answers import (
    KnownMemory,
    answered_methods,
    ask,
    ask_all,
    ask_by_layer,
)

PAGE, SLOTS, ROW = 4, 32, 24


class Pool:
    def __init__(self):
        self.k_buffer = [torch.zeros(SLOTS + PAGE, ROW, dtype=torch.uint8) for _ in range(2)]
        self.table = torch.zeros(3, 5, dtype=torch.uint8)

    def get_contiguous_buf_infos(self):
        tensors = [*self.k_buffer, self.table]
        return (
            [tensor.data_ptr() for tensor in tensors],
            [np.int64(tensor.nbytes) for tensor in tensors],
            [tensor[0].nbytes * PAGE for tensor in tensors],
        )

    def get_strange_buf_infos(self):
        return [self.k_buffer[1].data_ptr() + ROW, 1 << 45], [10, 20], [1, 2]

    def state_buf_infos(self):
        return [], [], []

    def get_view(self):
        return {"view": self.k_buffer[0][2:4]}, (3, None, torch.uint8)

    def get_unsupported(self):
        raise ValueError("not for <Pool object at 0x7f00aa>")

    def get_layer(self, layer_id):
        return layer_id

    def clear(self):
        self.k_buffer = None


@pytest.fixture
def answers():
    held = HeldPool(path="kv_cache", name="kv_cache", pool=Pool(), outer=())
    domain = SlotDomain(name="KV", slot_num=SLOTS, page_size=PAGE)
    planes = tuple(planes_of("KV", held.pool, domain, host=None, taken=set()))
    memory = KnownMemory(planes, device=[held], host=[])
    return {name: ask(held, name, memory, step="pools") for name in answered_methods(held)}


def test_questions_without_arguments_and_properties_are_asked_as_methods_are():
    class Inner(Pool):
        def is_aligned(self):
            return self.k_buffer[0].data_ptr() % 4096 == 0

    class Asked(Pool):
        def is_dense(self, size=4096):
            return size == 4096

        def is_aligned(self):
            return inner.pool.is_aligned()

        def is_inside(self, slot):
            return slot < SLOTS

        @property
        def row_view(self):
            return self.k_buffer[0][1:]

        @property
        def _hidden(self):
            return 1

        @property
        def missing(self):
            raise AttributeError("no rows")

    inner = HeldPool(path="inner", name="pool", pool=Inner(), outer=())
    held = HeldPool(path="host", name="group", pool=Asked(), outer=())
    memory = KnownMemory((), device=[held], host=[])
    answers = {one.method: one for one in ask_all((), (held, inner), memory, step="pools")}
    own = ["is_dense", "missing", "row_view"]
    # Whether a pool is aligned depends on addresses, whoever is asked for it.
    assert sorted(name for name in answers if not hasattr(Pool, name)) == own
    dense, missing, view = (answers[name] for name in own)
    assert (dense.values, dense.views) == (True, ())
    assert (missing.values, missing.reason) == (None, "AttributeError: no rows")
    rows = ByteRange(buffer="host.k_buffer[0]", first=ROW, bytes=ROW * (SLOTS + PAGE - 1))
    assert (view.values, view.views) == (None, (rows,))


def test_plain_values_of_layers_are_asked_for_layer_by_layer():
    class Layered(Pool):
        start_layer = 3

        def get_layer(self, layer_id):
            return [self.k_buffer[0]][layer_id - 3]

        def page_size_of(self, layer_id):
            return {3: 64, 4: 2}[layer_id]

        def slots_of(self, layer_id, loc):
            return loc

        def get_rows(self, layer):
            return layer.layer_id

    held = HeldPool(path="kv_cache", name="kv_cache", pool=Layered(), outer=())
    (answer,) = ask_by_layer(held, KnownMemory((), device=[held], host=[]), step="pools")
    assert (answer.holder, answer.method, answer.reason) == ("kv_cache", "page_size_of", "")
    refused = [[layer, None] for layer in range(5, 11)]
    assert answer.values == [[3, 64], [4, 2], *refused]


def test_methods_that_need_nothing_are_asked(answers):
    assert list(answers) == [
        "get_contiguous_buf_infos",
        "get_strange_buf_infos",
        "get_unsupported",
        "get_view",
        "state_buf_infos",
    ]


def test_pointers_are_rows_of_planes_or_other_buffers_of_a_pool(answers):
    size = (SLOTS + PAGE) * ROW
    places = [
        (one.pool, one.plane, one.layer, one.layers, one.offset, one.held_bytes)
        for one in answers["get_contiguous_buf_infos"].buffers
    ]
    assert places == [
        ("KV", "k_buffer", 0, 2, 0, size),
        ("KV", "k_buffer", 1, 2, 0, size),
        ("", "kv_cache.table", None, 0, 0, 15),
    ]
    lengths = [
        (one.bytes, one.item_bytes, one.page_bytes)
        for one in answers["get_contiguous_buf_infos"].buffers
    ]
    assert lengths == [(size, 96, 96), (size, 96, 96), (15, 20, 0)]


def test_a_pointer_into_a_buffer_has_its_offset_and_one_to_other_memory_no_place(answers):
    into, other = answers["get_strange_buf_infos"].buffers
    assert (into.plane, into.layer, into.offset, into.held_bytes) == ("k_buffer", 1, 24, 840)
    assert (other.pool, other.plane, other.bytes, other.held_bytes) == ("", "", 20, 0)


def test_tensors_are_views_and_the_rest_plain_values(answers):
    answer = answers["get_view"]
    assert answer.views == (ByteRange(buffer="KV.k_buffer[0]", first=48, bytes=48),)
    assert (answer.values, answer.buffers) == ([None, [3, None, "torch.uint8"]], ())


def test_an_error_is_the_reason_without_its_addresses(answers):
    assert answers["get_unsupported"].reason == "ValueError: not for <Pool object at *>"
    assert answers["state_buf_infos"].reason == ""


def test_a_page_is_what_the_pool_itself_counts_as_one():
    """A draft's pool has rows for the slots of two ranks, and half as many of them in a page."""
    pools = {rows: Pool() for rows in (PAGE, PAGE // 2)}
    for rows, pool in pools.items():
        pool.page_size = rows

    def page_bytes(pool):
        held = HeldPool(path="drafts[0]", name="DRAFT", pool=pool, outer=())
        domain = SlotDomain(name="DRAFT", slot_num=SLOTS, page_size=PAGE)
        planes = tuple(planes_of("DRAFT", pool, domain, host=None, taken=set()))
        memory = KnownMemory(planes, device=[held], host=[])
        return ask(held, "get_contiguous_buf_infos", memory, step="pools").buffers[0].page_bytes

    assert {rows: page_bytes(pool) for rows, pool in pools.items()} == {4: 96, 2: 48}
