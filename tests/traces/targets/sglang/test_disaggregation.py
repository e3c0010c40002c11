"""What a rank tells its peer is read without a peer, by functions that are found by parameters."""

import sys
import types
from types import SimpleNamespace

import pytest
import torch

from traces.targets.common.planes import SlotDomain, planes_of
from traces.targets.sglang import disaggregation
from traces.targets.sglang.held_pools import HeldPool
from traces.targets.sglang.pool_answers import KnownMemory

SOURCE = """
def setup_state(kv_args, token_to_kv_pool, draft_token_to_kv_pool=None):
    pool = token_to_kv_pool
    kv_args.state_types = ["SWA"]
    kv_args.state_data_ptrs = [[pool.k.data_ptr()], [pool.v.data_ptr()]]
    kv_args.state_data_lens = [[pool.k.nbytes], [pool.v.nbytes]]
    kv_args.state_item_lens = [[8], [8]]

def head_slice(src_attn_tp_size, dst_attn_tp_size, src_tp_rank, dst_tp_rank, total_kv_heads):
    return src_attn_tp_size, dst_attn_tp_size, src_tp_rank, dst_tp_rank, total_kv_heads

def all_heads(src_attn_tp_size, dst_attn_tp_size, src_tp_rank, dst_tp_rank, total_kv_heads):
    number = max(1, total_kv_heads // dst_attn_tp_size)
    return dst_tp_rank * number, number, 0, number

def sent_to(src_attn_tp_size, dst_attn_tp_size, address):
    return address

def unrelated(kv_args):
    return kv_args
"""


@pytest.fixture
def release(monkeypatch):
    """A release whose disaggregation is one module."""
    utils = types.ModuleType("sglang.srt.disaggregation.utils")
    exec(compile(SOURCE, "utils.py", "exec"), vars(utils))
    functions = (disaggregation.state_functions, disaggregation.slice_functions)
    monkeypatch.setattr(disaggregation, "_modules", lambda: (utils,))
    monkeypatch.setitem(sys.modules, utils.__name__, utils)
    for function in functions:
        function.cache_clear()
    yield
    for function in functions:
        function.cache_clear()


@pytest.fixture
def memory():
    pool = SimpleNamespace(k=torch.zeros(36, 4), v=torch.zeros(36, 4))
    domain = SlotDomain(name="KV", slot_num=32, page_size=4)
    planes = tuple(planes_of("KV", pool, domain, host=None, taken=set()))
    held = HeldPool(path="kv_cache", name="kv_cache", pool=pool, outer=())
    known = KnownMemory(planes, device=[held], host=[])
    return SimpleNamespace(pool=pool, known=known)


@pytest.mark.usefixtures("release")
def test_functions_are_found_by_their_parameters():
    assert list(disaggregation.state_functions()) == ["setup_state"]
    assert list(disaggregation.slice_functions()) == ["all_heads", "head_slice", "sent_to"]


@pytest.mark.usefixtures("release")
def test_the_state_of_a_rank_is_told_as_buffers_and_values(memory):
    stack = SimpleNamespace(kvcache=memory.pool, req_to_token_pool=None, draft_pools=())
    (told,) = disaggregation.state_answers(stack, memory.known, step="pools")

    assert (told.holder, told.method, told.reason) == ("disaggregation", "setup_state", "")
    assert [(one.plane, one.bytes, one.item_bytes) for one in told.buffers] == [
        ("k", 576, 8),
        ("v", 576, 8),
    ]
    assert told.values == {"state_types": ["SWA"]}


@pytest.mark.usefixtures("release")
def test_slices_are_those_of_every_pair_of_ranks(memory):
    _, slices, unknown = disaggregation.slice_answers(memory.known, step="pools")

    assert slices.values[:4] == [[2, 2, 0, 0, 8], [2, 2, 0, 1, 8], [2, 2, 1, 0, 8], [2, 2, 1, 1, 8]]
    assert [4, 2, 3, 1, 8] in slices.values
    assert len(slices.values) == 4 + 8 + 8 + 4 + 4 + 32 + 32
    assert unknown.reason == "TypeError: takes address, which is not known"


@pytest.mark.usefixtures("release")
def test_slices_are_compared_with_what_each_receiving_rank_holds(memory):
    """The heads are numbered as if one rank sent them all: that is right for one alone."""
    heads, numbers, _ = disaggregation.slice_answers(memory.known, step="pools")

    found = {(one.sources, one.targets): (one.missing, one.wrong) for one in heads.slices}
    assert found[1, 4] == (0, 0)
    assert found[2, 4] == (0, 4)
    assert len(found) == 7
    assert numbers.slices == ()
