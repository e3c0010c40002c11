"""Pages with different bytes under one storage key, and what a client must not be handed."""

import pytest

from traces.audit.storage_keys import client_misuses, key_collisions
from traces.schema.storage_records import StorageAccess


def access(key, sha256, *, operation="store", pool="", backend="file", size=1024):
    return StorageAccess(
        step="storage",
        operation=operation,
        pool=pool,
        key=key,
        bytes=size,
        backend=backend,
        sha256=sha256,
    )


@pytest.fixture
def stored(made):
    def recording(name, *events, **config):
        return made.recording(name, config=config, events=events)

    return recording


def test_pages_of_two_dtypes_under_one_key_collide(stored):
    recordings = {
        "bf16": stored("bf16", access("a.bin", "11"), model="llama3_8b"),
        "fp8": stored("fp8", access("a.bin", "22", size=512), model="llama3_8b_fp8"),
    }
    [found] = key_collisions(recordings)
    assert str(found.kind) == "storage_key_collision"
    assert found.where == "file: model"
    assert found.scenarios == ("bf16", "fp8")
    assert found.message == (
        "Pages that differ in model (llama3_8b, llama3_8b_fp8) have one storage key a.bin: "
        "1024 bytes 11 and 512 bytes 22."
    )


@pytest.mark.parametrize(
    "other",
    [
        access("a_fp8.bin", "22"),
        access("a.bin", "11"),
        access("a.bin", "22", backend="mooncake"),
        access("a.bin", "22", operation="fetch"),
    ],
)
def test_other_keys_equal_pages_and_other_storages_do_not_collide(stored, other):
    recordings = {
        "bf16": stored("bf16", access("a.bin", "11"), model="llama3_8b"),
        "fp8": stored("fp8", other, model="llama3_8b_fp8"),
    }
    assert key_collisions(recordings) == ()


def test_field_that_explains_a_collision_alone_is_told_alone(stored):
    recordings = {
        "a": stored("a", access("k", "11"), layout="page_first", io_backend="kernel"),
        "b": stored("b", access("k", "22"), layout="layer_first", io_backend="kernel"),
        "c": stored("c", access("k", "33"), layout="page_first_direct", io_backend="direct"),
    }
    assert [found.where for found in key_collisions(recordings)] == ["file: layout"]


def test_keys_of_the_scenarios_own_backend_are_compared_within_it(stored):
    one = access("k", "11", pool="KV", backend="")
    other = access("k", "22", pool="KV", backend="")
    apart = {"a": stored("a", one), "b": stored("b", other)}
    assert key_collisions(apart) == ()
    [found] = key_collisions({"a": stored("a", one, other)})
    assert (found.where, found.scenarios) == ("KV: request", ("a",))


def test_misuse_of_a_client_is_a_finding(stored):
    rule = "memory must be registered; expected 8 registered bytes, got others"
    recordings = {"a": stored("a", access(rule, "", operation="misuse", backend="mooncake"))}
    [found] = client_misuses(recordings)
    assert (str(found.kind), found.where) == ("row_bytes_mismatch", "storage mooncake client")
    assert found.message == f"The client of mooncake: {rule}."
    assert client_misuses({"a": stored("a", access("a", "11"))}) == ()
