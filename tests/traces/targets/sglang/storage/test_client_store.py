"""Pages of a client: what it is handed must be memory of a host pool, and keys distinct."""

import pytest
import torch

from traces.targets.sglang.storage import client_store
from traces.targets.sglang.storage.client_store import ClientStore, KnownBuffer, MemorySpan

WIDTH = 8


@pytest.fixture
def rows():
    """Four rows of two float32 elements: 32 bytes."""
    return torch.arange(WIDTH, dtype=torch.float32)


@pytest.fixture
def told(monkeypatch):
    found = []
    monkeypatch.setattr(
        client_store,
        "report_storage_use",
        lambda **used: found.append((used["operation"], used["key"], used.get("size", 0))),
    )
    return found


@pytest.fixture
def store(rows, told):
    kept = ClientStore("mooncake", [KnownBuffer.of(rows, name="KV.kv_buffer")])
    assert kept.register(MemorySpan(address=rows.data_ptr(), size=rows.nbytes))
    told.clear()
    return kept


def span(rows, offset, size):
    return MemorySpan(address=rows.data_ptr() + offset, size=size)


def misuses(told):
    return [key for operation, key, _ in told if operation == "misuse"]


def test_page_comes_back_to_other_rows(store, rows, told):
    assert store.put("a", [span(rows, 0, 8)])
    assert store.get("a", [span(rows, 16, 8)]) == 8
    assert rows.tolist() == [0, 1, 2, 3, 0, 1, 6, 7]
    assert told == [("store", "a", 8), ("fetch", "a", 8)]
    assert store.has_pages


def test_page_of_several_pieces_comes_back_in_their_order(store, rows):
    assert store.put("a", [span(rows, 0, 8), span(rows, 24, 8)])
    assert store.get("a", [span(rows, 8, 8), span(rows, 0, 8)]) == 16
    assert rows.tolist() == [6, 7, 0, 1, 4, 5, 6, 7]


def test_missing_page_is_not_found(store, rows, told):
    assert not store.has_page("a")
    assert store.get("a", [span(rows, 0, 8)]) is None
    assert told == [("query", "a", 0), ("fetch", "a", 0)]


@pytest.mark.parametrize(
    ("offset", "size", "rule"),
    [
        (32, 8, "memory must be registered; expected 8 registered bytes, got others"),
        (28, 8, "memory must be registered; expected 8 registered bytes, got others"),
        (2, 8, "an address must be a whole element; expected steps of 4, got 2"),
        (0, 0, "a page must have bytes; expected more than 0, got 0"),
        (0, 1 << 40, "a page must be in registered memory; expected at most 32 bytes, got more"),
    ],
)
def test_memory_that_is_not_a_row_is_a_misuse(store, rows, told, offset, size, rule):
    assert not store.put("a", [span(rows, offset, size)])
    assert misuses(told) == [rule]
    assert not store.has_pages


def test_memory_of_a_pool_that_was_not_registered_is_a_misuse(rows, told):
    kept = ClientStore("mooncake", [KnownBuffer.of(rows, name="KV.kv_buffer")])
    assert not kept.put("a", [span(rows, 0, 8)])
    assert misuses(told) == ["memory must be registered; expected 8 registered bytes, got others"]


def test_registration_must_not_reach_beyond_a_buffer(rows, told):
    kept = ClientStore("mooncake", [KnownBuffer.of(rows, name="KV.kv_buffer")])
    assert not kept.register(span(rows, 0, rows.nbytes + 4))
    rule = "memory must not reach beyond a buffer; expected the buffer, got more than it"
    assert misuses(told) == [rule]


def test_registered_memory_is_told_by_its_place_in_a_buffer(rows, told):
    kept = ClientStore("mooncake", [KnownBuffer.of(rows, name="KV.kv_buffer")])
    own = torch.zeros(4, dtype=torch.uint8)
    assert kept.register(span(rows, 8, 16))
    assert kept.register(MemorySpan(address=own.data_ptr(), size=4))
    assert told == [
        ("open", "memory from byte 8 of KV.kv_buffer", 16),
        ("open", "memory of its own", 4),
    ]


def test_probe_is_told_without_its_random_part_and_is_no_page(store, told):
    store.report_probe("store", f"warmup_{'3f' * 16}", b"\0\0")
    assert told == [("store", "warmup_*", 2)]
    assert not store.has_pages


def test_memory_of_the_backend_itself_may_be_registered_and_used(store, told):
    bounce = torch.zeros(4, dtype=torch.uint8)
    whole = MemorySpan(address=bounce.data_ptr(), size=4)
    assert store.register(whole)
    assert store.put("a", [whole])
    assert misuses(told) == []


def test_page_that_fails_is_found_and_does_not_arrive(store, rows):
    store.put("a", [span(rows, 0, 8)])
    assert store.keys == ("a",)
    with store.failing_page("a"):
        assert store.has_page("a")
        assert store.get("a", [span(rows, 8, 8)]) is None
    assert store.get("a", [span(rows, 8, 8)]) == 8


def test_page_that_is_taken_away_is_not_found_and_comes_back_in_its_place(store, rows):
    store.put("a", [span(rows, 0, 8)])
    store.put("b", [span(rows, 8, 8)])
    with store.missing_page("a"):
        assert not store.has_page("a")
        assert store.has_page("b")
    assert store.keys == ("a", "b")
    assert store.get("a", [span(rows, 8, 8)]) == 8


def test_page_is_read_with_the_size_it_was_stored_with(store, rows, told):
    store.put("a", [span(rows, 0, 8)])
    assert store.get("a", [span(rows, 8, 16)]) is None
    assert misuses(told) == ["a page must be read with its size; expected 8 bytes, got 16"]


def test_keys_of_one_call_are_distinct(store, told):
    store.require_distinct(["a", "b"])
    assert misuses(told) == []
    store.require_distinct(["a", "b", "a"])
    assert misuses(told) == ["keys of one call must be distinct; expected each once, got a"]


def test_connection_tells_the_numbers_among_its_settings(told):
    store = ClientStore("mooncake", [])
    store.connect(["host", 4096, True, 8])
    store.connect(["host"])
    assert told == [("open", "connected with 4096, 8", 0)]
