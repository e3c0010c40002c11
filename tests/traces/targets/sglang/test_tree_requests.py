"""Requests of a release are told what a batch knows of them, in the fields that they have."""

from array import array
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from tests.traces.targets.sglang.test_own_slots import Allocator
from traces.targets.sglang import server_requests, tree_requests
from traces.targets.sglang.server_requests import (
    DecodeBatch,
    PrefillBatch,
    commit,
    evict_windows,
    has_state,
    keep_checkpoint,
    plan_prefill,
    prefix_length,
    state_of,
)
from traces.targets.sglang.tree_ledger import CountedPool
from traces.targets.sglang.tree_requests import TreeRequests


class Request:
    """A request of three known tokens and five new ones."""

    origin_input_ids = array("q", range(8))
    prefix_indices = torch.arange(3)
    output_ids: tuple[int, ...] = ()

    def __init__(self, **fields):
        vars(self).update(fields)
        self.told = []


@pytest.fixture
def stack():
    table = SimpleNamespace(req_to_token=torch.zeros(2, 8))
    return SimpleNamespace(cache="tree", req_to_token_pool=table, allocator="allocator")


def test_a_batch_has_the_tokens_that_the_tree_lacks(stack):
    batch = PrefillBatch(stack, Request(), tree="tree")
    assert (batch.prefix_lens, batch.extend_lens, batch.extend_num_tokens) == ([3], [5], 5)
    assert batch.seq_lens.tolist() == batch.seq_lens_cpu.tolist() == [8]
    assert (batch.tree_cache, batch.token_to_kv_pool_allocator) == ("tree", "allocator")
    assert batch.is_dllm() is False


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 3),
        ({"prefix_indices": None, "prefix_len": 6}, 6),
        ({"prefix_indices": torch.arange(0), "prefix_len": 6}, 0),
    ],
    ids=["indices", "a number alone", "no indices beside a number"],
)
def test_the_known_prefix_is_counted_where_the_release_keeps_it(fields, expected):
    assert prefix_length(Request(**fields)) == expected


@pytest.mark.parametrize(
    ("method", "told"), [("set_extend_range", (3, 8)), ("set_extend_input_len", (5,))]
)
def test_a_request_is_told_the_tokens_of_the_next_pass_in_its_own_way(method, told):
    request = Request()
    setattr(request, method, lambda *given: request.told.append(given))
    plan_prefill(request)
    assert request.told == [told]


def test_a_request_that_counts_the_tokens_it_has_gets_all_of_them():
    request = Request(fill_len=0)
    request.set_extend_input_len = request.told.append
    plan_prefill(request)
    assert (request.told, request.fill_len) == ([5], 8)


def test_a_request_that_is_told_nothing_stays_as_it_is():
    request = Request()
    plan_prefill(request)
    assert vars(request) == {"told": []}


def test_a_request_that_keeps_the_end_of_the_next_pass_is_told_it():
    request = Request(extend_end=None)
    plan_prefill(request)
    assert request.extend_end == 8


def test_windows_that_the_next_token_does_not_see_are_freed_as_a_batch_does(monkeypatch, stack):
    told = []
    batches = {
        "later": SimpleNamespace(_evict_swa=lambda *given: told.append(given)),
        "earlier": SimpleNamespace(),
    }
    request = Request(req_pool_idx=1, output_ids=[7])
    batch = DecodeBatch(stack, request, tree="tree")
    for cls in batches.values():
        module = SimpleNamespace(ScheduleBatch=cls)
        monkeypatch.setattr(server_requests, "import_module", lambda _name, found=module: found)
        evict_windows(batch, request)
    assert told == [(batch, request, 8)]


def test_computed_tokens_are_counted_where_the_request_or_its_record_counts_them():
    early = Request(kv_committed_len=0)
    late = Request(kv=SimpleNamespace(kv_committed_len=0, kv_allocated_len=0))
    for request in (early, late):
        commit(request)
    assert early.kv_committed_len == 8
    assert not hasattr(early, "kv_allocated_len")
    assert (late.kv.kv_committed_len, late.kv.kv_allocated_len) == (8, 8)


def test_the_state_of_a_request_is_found_in_it_or_in_its_record():
    assert state_of(Request(mamba_pool_idx=torch.tensor(4))).tolist() == [4]
    record = SimpleNamespace(mamba_pool_idx=torch.tensor(5))
    assert state_of(Request(kv=record)).tolist() == [5]


def test_a_request_has_a_state_once_it_was_given_one():
    assert has_state(Request(kv=SimpleNamespace(mamba_pool_idx=torch.tensor(5))))
    assert not has_state(Request(kv=SimpleNamespace(mamba_pool_idx=None)))
    assert not has_state(Request(mamba_pool_idx=None))


def tracked(**fields):
    """Return a record with two slots for states, of which the next pass fills the second."""
    return SimpleNamespace(
        mamba_ping_pong_track_buffer=torch.tensor([8, 9]),
        mamba_next_track_idx=1,
        mamba_last_track_seqlen=None,
        **fields,
    )


class OtherSlot:
    """A table whose requests fill two slots for states in turn."""

    @staticmethod
    def get_mamba_ping_pong_other_idx(index):
        return 1 - index


def test_the_state_behind_the_last_whole_page_of_a_prompt_is_kept():
    later = tracked(mamba_last_track_idx=None)
    slot = keep_checkpoint(Request(kv=later), table=OtherSlot, page_size=4)
    assert slot.tolist() == [9]
    # Three known tokens and one page of the five new ones.
    assert (later.mamba_last_track_seqlen, later.mamba_next_track_idx) == (7, 0)
    assert later.mamba_last_track_idx == 1
    earlier = Request(**vars(tracked()))
    assert keep_checkpoint(earlier, table=OtherSlot, page_size=2).tolist() == [9]
    assert earlier.mamba_last_track_seqlen == 7
    assert not hasattr(earlier, "mamba_last_track_idx")


def test_no_state_is_kept_without_a_whole_page_or_a_second_slot():
    record = tracked()
    assert keep_checkpoint(Request(kv=record), table=OtherSlot, page_size=8) is None
    assert (record.mamba_last_track_seqlen, record.mamba_next_track_idx) == (None, 1)
    single = SimpleNamespace(mamba_ping_pong_track_buffer=None, mamba_last_track_seqlen=None)
    assert keep_checkpoint(Request(kv=single), table=OtherSlot, page_size=4) is None


def test_slots_come_from_the_function_of_the_first_module_that_has_one(monkeypatch, stack):
    modules = {
        "later": None,
        "earlier": SimpleNamespace(
            support_triton=lambda _: True,
            alloc_for_extend=lambda batch: (
                batch.extend_num_tokens * (not earlier.support_triton("fa3")),
            ),
        ),
    }
    earlier = modules["earlier"]

    def find(name):
        if modules[name] is None:
            raise ImportError(name)
        return modules[name]

    monkeypatch.setattr(server_requests, "_ALLOCATION", ("later", "earlier"))
    monkeypatch.setattr(server_requests, "import_module", find)
    assert server_requests.allocate(PrefillBatch(stack, Request(), tree="tree")) == 5
    assert earlier.support_triton("fa3") is True


@pytest.mark.parametrize(
    ("size", "component", "held", "left"),
    [(12, "SWA", 4, 8), (3, "SWA", 0, 3), (12, "FULL", 0, 12)],
    ids=["a page of windows", "no room for one", "no windows"],
)
def test_requests_run_while_a_page_of_windows_is_held(size, component, held, left):
    windows = Allocator(size)
    pool = CountedPool(
        pool="SWA", component=component, side="device", allocator=windows, total=size
    )
    stack = SimpleNamespace(page_size=4, cache=None, req_to_token_pool=None)
    driver = SimpleNamespace(flush=lambda: None)
    requests = TreeRequests(stack, driver=driver, pools=(pool,))

    with requests._windows_apart():
        assert requests._ledger.held["device", "SWA"] == held
        assert windows.available_size() == left
    assert windows.available_size() == size


def test_tokens_under_a_salt_are_asked_for_without_it(monkeypatch):
    """Of a tree that keeps the salt of a key the second request finds nothing to lock."""
    driver = SimpleNamespace(
        acknowledge=lambda: None, evict_device=lambda: None, flush=lambda: None, domains=()
    )
    stack = SimpleNamespace(page_size=4, cache=None, req_to_token_pool=None)
    requests = TreeRequests(stack, driver=driver, pools=())
    asked = []
    monkeypatch.setattr(
        requests, "_admit", lambda name, _, salt=None: iter([asked.append((name, salt))])
    )
    monkeypatch.setattr(requests, "_keep", lambda name: iter([asked.append(("keep", name))]))
    monkeypatch.setattr(
        requests, "_end", lambda name, is_kept: iter([asked.append((name, is_kept))])
    )
    monkeypatch.setattr(requests._ledger, "read", lambda moment, is_final: iter(()))

    list(requests._salt(sequence=None))

    assert asked == [
        ("salted", "salt"),
        ("keep", "salted"),
        ("unsalted", None),
        ("unsalted", True),
        ("salted", True),
    ]


def test_requests_are_served_again_for_each_switch_that_is_read(monkeypatch):
    """A switch has its other value for as long as the requests run that are served for it."""
    driver = SimpleNamespace(flush=lambda: None)
    stack = SimpleNamespace(page_size=4, cache=None, req_to_token_pool=None)
    requests = TreeRequests(stack, driver=driver, pools=())
    done = []

    @contextmanager
    def switched(name):
        done.append(("on", name))
        yield
        done.append(("off", name))

    monkeypatch.setattr(tree_requests, "noted_switches", lambda: nullcontext({"B", "A"}))
    monkeypatch.setattr(tree_requests, "switched", switched)
    monkeypatch.setattr(requests, "_serve", lambda: iter([done.append("served")]))
    monkeypatch.setattr(requests, "_serve_otherwise", lambda name: iter([done.append(name)]))

    list(requests.run())

    assert done == ["served", ("on", "A"), "A", ("off", "A"), ("on", "B"), "B", ("off", "B")]


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_prefix_is_matched_while_no_state_is_free(monkeypatch, is_refused):
    """Every state is free again behind it, whether or not the tree could evict one."""
    states, seen = Allocator(6), []
    pool = CountedPool(pool="MAMBA", component="MAMBA", side="device", allocator=states, total=6)
    stack = SimpleNamespace(page_size=4, cache="tree", req_to_token_pool=None)
    driver = SimpleNamespace(
        sequence=lambda name, **_: SimpleNamespace(name=name, raw_tokens=[1, 2]),
        acknowledge=lambda: None,
    )
    requests = TreeRequests(stack, driver=driver, pools=(pool,))
    monkeypatch.setattr(
        requests, "_admit", lambda name, _: iter([requests._running.update({name: None})])
    )
    monkeypatch.setattr(requests, "_end", lambda name, is_kept: iter([requests._running.pop(name)]))
    monkeypatch.setattr(requests._ledger, "read_locks", lambda moment: iter([moment]))
    monkeypatch.setattr(requests._ledger, "read", lambda moment, is_final: iter([moment]))

    class Matching:
        mamba_pool_idx = None

        def init_next_round_input(self, _tree):
            seen.append(states.available_size())
            if is_refused:
                raise AssertionError("no state")

    monkeypatch.setattr(tree_requests, "make_request", lambda _name, _tokens: Matching())
    records = list(requests._match_without_states())

    (answer,) = [one for one in records if getattr(one, "holder", "") == "tree"]
    assert answer.values == (["no state"] if is_refused else [""])
    assert seen == [0]
    assert states.available_size() == 6
