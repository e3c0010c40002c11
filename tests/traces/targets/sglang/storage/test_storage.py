"""The storage tier of a scenario: what its own backend keeps, finds, loses and reports."""

import dataclasses
import hashlib
import importlib
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest
import torch

from traces.targets.sglang.registry import registry
from traces.targets.sglang.storage import LOADER, usage_reports
from traces.targets.sglang.storage.hashing import TokenHash, load_token_hash

PAGE = 2


@dataclasses.dataclass
class Config:
    tp_rank: int = 0
    tp_size: int = 1
    is_mla_model: bool = False
    model_name: str | None = "m"
    extra_config: dict | None = None


@dataclasses.dataclass
class Found:
    kv_hit_pages: int
    extra_pool_hit_pages: dict


class HostPool:
    page_size = PAGE

    def __init__(self) -> None:
        self.rows = torch.arange(16)

    def get_data_page(self, index, flat):
        assert flat
        return self.rows[index : index + PAGE]

    def set_from_flat_data_page(self, index, page):
        self.rows[index : index + PAGE] = page


def transfer(name, slots, keys, policy="all_pages"):
    return SimpleNamespace(
        name=name, host_indices=torch.tensor(slots), keys=keys, hit_policy=policy
    )


@pytest.fixture
def told(monkeypatch):
    """What the backend reports, in order."""
    found = []
    monkeypatch.setattr(
        usage_reports,
        "report_storage_use",
        lambda *, operation, pool, key, size=0, backend="", sha256="": found.append(
            (operation, pool, key, size)
        ),
    )
    return found


@pytest.fixture
def storage(monkeypatch, told):
    module = ModuleType("sglang.srt.mem_cache.hicache_storage")
    module.HiCacheStorage = object
    module.PoolTransferResult = Found
    for name in ("sglang", "sglang.srt", "sglang.srt.mem_cache"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, LOADER["module_path"], raising=False)
    backend = importlib.import_module(LOADER["module_path"])
    yield getattr(backend, LOADER["class_name"])(Config(tp_rank=3, tp_size=4), {})
    del sys.modules[LOADER["module_path"]]


def test_lone_rank_tells_nothing_but_its_model():
    assert usage_reports.rank_namespace(Config(), left_out=()) == "model_name=m"


def test_every_setting_of_a_rank_is_told_and_what_it_is_loaded_by_is_not():
    config = Config(
        tp_rank=3, tp_size=4, is_mla_model=True, extra_config={"option": 97, "class_name": "C"}
    )
    told = usage_reports.rank_namespace(config, left_out=LOADER)
    assert told == (
        'extra_config={"option": 97}, is_mla_model=True, model_name=m, tp_rank=3, tp_size=4'
    )


def test_long_hashes_are_cut_and_prefixes_stay():
    assert usage_reports.short_key("d:" + "0123456789abcdef" * 4) == "d:0123456789abcdef"
    assert usage_reports.short_key("first") == "first"


def test_keys_are_those_of_releases_without_a_compiled_hash():
    pages = TokenHash.get_hash(range(1000, 1032), 32, 1, False, None, 16)
    assert [page[:16] for page in pages] == ["4faa8bd53eda3d89", "fc228fb55a288afe"]
    one = TokenHash.get_hash(range(1016, 1032), 16, 1, False, bytes.fromhex(pages[0]), None)
    assert one == pages[1]


def test_only_the_extension_of_keys_is_replaced():
    def load(name, sources, *, verbose):
        return (name, sources, verbose)

    own = load_token_hash(load, name="hicache_hash_cpp", sources=["hash.cpp"], verbose=True)
    other = load_token_hash(load, "hf3fs_utils", ["utils.cpp"], verbose=False)

    assert own is TokenHash
    assert other == ("hf3fs_utils", ["utils.cpp"], False)


def hashed(*numbers):
    told = hashlib.sha256()
    for number in numbers:
        told.update(number.to_bytes(4, "little"))
    return told.hexdigest()


def test_pairs_of_tokens_are_hashed_one_after_the_other():
    pairs = TokenHash.get_hash([1, 2, 3, 4], 2, 2, False, None, None)
    overlapping = TokenHash.get_hash([1, 2, 3], 2, 2, True, None, None)

    assert pairs == hashed(1, 2, 3, 4)
    assert overlapping == hashed(1, 2, 2, 3)


def test_pages_of_pairs_share_the_token_between_them():
    pages = TokenHash.get_hash([1, 2, 3], 2, 2, True, None, 1)

    assert pages[0] == hashed(1, 2)
    assert pages[1] == TokenHash.get_hash([2, 3], 1, 2, True, bytes.fromhex(pages[0]), None)


def test_anchor_pages_come_back_as_they_were_kept(storage, told):
    page = torch.arange(4)
    assert storage.batch_set(["a", "b"], [page, page + 4])
    page.zero_()
    target = torch.empty(4, dtype=torch.int64)
    assert storage.batch_get(["a"], [target])[0].tolist() == [0, 1, 2, 3]
    assert storage.batch_get(["c"], [target]) == [None]
    assert storage.batch_exists(["a", "c", "b"]) == 1
    assert told[1:] == [
        ("store", "KV", "a", 32),
        ("store", "KV", "b", 32),
        ("fetch", "KV", "a", 32),
        ("fetch", "KV", "c", 0),
        ("query", "KV", "a", 32),
        ("query", "KV", "c", 0),
        ("query", "KV", "b", 32),
    ]


def test_pages_of_a_pool_go_to_other_slots(storage, told):
    pool = HostPool()
    storage.register_mem_host_pool_v2(pool, "swa")
    assert storage.batch_set_v2([transfer("swa", [4, 5], ["a"])]) == {"swa": [True]}
    assert storage.batch_get_v2([transfer("swa", [8, 9], ["a"])]) == {"swa": [True]}
    assert pool.rows[8:10].tolist() == [4, 5]
    assert storage.batch_get_v2([transfer("swa", [8, 9], ["z"])]) == {"swa": [False]}
    assert [used[:3] for used in told[1:]] == [
        ("open", "SWA", "page_size=2"),
        ("store", "SWA", "a"),
        ("fetch", "SWA", "a"),
        ("fetch", "SWA", "z"),
    ]


def test_slots_that_do_not_fit_their_keys_are_refused(storage, told):
    storage.register_mem_host_pool_v2(HostPool(), "swa")
    assert storage.batch_set_v2([transfer("swa", [4], ["a"])]) == {"swa": [False]}
    assert storage.batch_set_v2([transfer("mamba", [4, 5], ["a"])]) == {"mamba": [False]}
    assert [used[:3] for used in told[2:]] == [("refuse", "SWA", "a"), ("refuse", "MAMBA", "a")]


@pytest.mark.parametrize(("policy", "usable"), [("all_pages", 0), ("trailing_pages", 2)])
def test_prefix_ends_where_a_pool_cannot_restore_it(storage, policy, usable):
    storage.register_mem_host_pool_v2(HostPool(), "swa")
    storage.batch_set(["a", "b", "c"], [torch.zeros(1)] * 3)
    storage.batch_set_v2([transfer("swa", [4, 5], ["b"])])
    found = storage.batch_exists_v2(["a", "b", "c"], [transfer("swa", [0, 1], ["c"], policy)])
    assert found == Found(usable, {"swa": usable})


def test_page_that_is_taken_away_is_not_found_and_comes_back(storage):
    storage.batch_set(["a", "b"], [torch.zeros(1)] * 2)
    with storage.without_page("KV", "b"):
        assert storage.batch_exists(["a", "b"]) == 1
    assert storage.batch_exists(["a", "b"]) == 2


def test_page_that_fails_is_found_and_does_not_arrive(storage):
    storage.batch_set(["a"], [torch.zeros(1)])
    with storage.failing_page("KV", "a"):
        assert storage.batch_exists(["a"]) == 1
        assert storage.batch_get(["a"]) == [None]
    assert storage.batch_get(["a"])[0].tolist() == [0]


def test_closed_storage_is_taken_over_and_cleared_storage_has_no_page(storage, told):
    storage.set("one", torch.zeros(PAGE))
    storage.close()
    later = type(storage)(Config())
    assert not later.has_page("KV", "one")
    later.take_over(storage)
    assert later.has_page("KV", "one")
    later.clear()
    assert not later.has_page("KV", "one")
    assert [one[0] for one in told if one[0] in ("close", "clear")] == ["close", "clear"]


def test_query_that_is_held_is_answered_afterwards(storage):
    storage.batch_set(["a"], [torch.zeros(1)])
    answers = []
    asking = threading.Thread(target=lambda: answers.append(storage.batch_exists(["a"])))
    with storage.held_queries():
        asking.start()
        asking.join(timeout=0.05)
        assert answers == []
    asking.join(timeout=10)
    assert answers == [1]


def test_report_of_a_page_has_the_head_of_its_hash():
    # sha256 of the bytes 0, 1, 2, 3.
    assert usage_reports.page_digest(bytes(range(4))) == "054edec1d0211f62"


def test_storage_is_opened_by_builders_and_where_the_servers_arguments_do():
    opening = [s for s in registry().values() if s.opens_storage]
    assert all(s.storage_backend == "dynamic" for s in opening)
    assert {s.builder for s in opening if not s.builder.startswith("build_")} == {
        "DecodeKVCacheOffloadManager",
        "HiRadixCache",
        "HiMambaRadixCache",
        "UnifiedRadixCache.init_hicache",
    }
    own = [s for s in registry().values() if s.storage_backend == "dynamic"]
    named = {s.builder for s in own if not s.opens_storage}
    assert named == {"attach_hybrid_pool_to_unified_cache"}


def test_storage_is_played_by_the_first_rank_and_by_others_of_every_kind_of_pool():
    ranks = {(s.model, s.groups) for s in registry().values() if s.opens_storage}
    assert {("dsv3", "tp1"), ("dsv3", "tp8cp2"), ("dsv32_bf16", "tp1")} <= ranks
    assert {("llama3_8b", "tp8cp2"), ("kimi_linear", "tp8cp2")} <= ranks
