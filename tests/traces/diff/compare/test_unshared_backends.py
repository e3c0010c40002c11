"""Storage backends that one side lacks are no difference; those of both sides are compared."""

import msgspec

from traces.diff import compare_sides
from traces.diff.compare.backends import without_unshared_backends
from traces.schema.storage_records import StorageAccess, StorageMatch
from traces.schema.verdict import Kind


def access(operation, key, *, backend):
    return StorageAccess(
        step="load", operation=operation, pool="", key=key, bytes=8, backend=backend, sha256="00"
    )


def match(backend, arrived=64):
    return StorageMatch(
        step="load",
        backend=backend,
        sequence="first",
        phase="whole",
        asked=64,
        available=None,
        hits=64,
        arrived=arrived,
        pools={},
        is_over=True,
        equal=True,
    )


def with_storage(recording, *events, digests=()):
    trace, sites = recording.trace, recording.sites
    if sites is not None:
        sites = msgspec.structs.replace(sites, events=(*sites.events, *(None for _ in events)))
    trace = msgspec.structs.replace(
        trace, events=(*trace.events, *events), digests=(*trace.digests, *digests)
    )
    return msgspec.structs.replace(recording, trace=trace, sites=sites)


def test_backend_that_a_release_adds_is_no_difference(nsa):
    old = with_storage(nsa(), access("open", "tp_size=2", backend="file"))
    new = with_storage(
        nsa(),
        access("open", "tp_size=2", backend="file"),
        access("open", "tp_size=2", backend="shm"),
        access("store", "a", backend="shm"),
        digests=[match("shm")],
    )
    assert without_unshared_backends(old, new) == (old, old)
    assert compare_sides({"nsa": old}, {"nsa": new}) == ()


def test_key_of_a_backend_that_both_have_is_a_difference(nsa):
    """Control."""
    old = with_storage(nsa(), access("store", "a_tp0.bin", backend="file"))
    new = with_storage(nsa(), access("store", "a.bin", backend="file"))
    [cause] = compare_sides({"nsa": old}, {"nsa": new})
    assert cause.kind is Kind.STORAGE_KEY_CHANGED
    assert (cause.before, cause.after) == ({"key": "a_tp0.bin"}, {"key": "a.bin"})


def test_backend_that_is_refused_on_one_side_is_a_difference(nsa):
    opened = with_storage(nsa(), access("open", "tp_size=2", backend="file"))
    refused = with_storage(nsa(), access("refuse", "TypeError: no pool", backend="file"))
    assert compare_sides({"nsa": opened}, {"nsa": refused}) != ()
    assert compare_sides({"nsa": opened}, {"nsa": opened}) == ()


def test_prefetch_that_brings_less_is_a_difference(nsa):
    opened = access("open", "tp_size=2", backend="file")
    old = with_storage(nsa(), opened, digests=[match("file")])
    new = with_storage(nsa(), opened, digests=[match("file", arrived=32)])
    [cause] = compare_sides({"nsa": old}, {"nsa": new})
    assert (cause.kind, cause.where) == (
        Kind.DIGEST_CHANGED,
        "prefetch first whole file in load",
    )


def test_scenario_that_failed_keeps_all_backends(nsa):
    old = with_storage(nsa(), access("open", "tp_size=2", backend="file"))
    new = nsa("boom in write")
    assert without_unshared_backends(old, new) == (old, new)
