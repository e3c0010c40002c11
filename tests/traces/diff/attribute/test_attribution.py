"""Storage: who stores what is a cause of its own, unless nothing is opened or no such pool is."""

import msgspec

from traces.diff import diff
from traces.schema.storage_records import StorageAccess
from traces.schema.verdict import Kind

OWN = {"backend": "", "sha256": ""}
OPENED = StorageAccess(step="build", operation="open", pool="", key="tp_rank=6", bytes=0, **OWN)


def stored(key, **fields):
    made = StorageAccess(step="storage", operation="store", pool="KV", key=key, bytes=1024, **OWN)
    return msgspec.structs.replace(made, **fields)


def with_storage(recording, *events):
    trace = msgspec.structs.replace(recording.trace, events=(*recording.trace.events, *events))
    return msgspec.structs.replace(recording, trace=trace)


def causes(base, head):
    return [(cause.kind, cause.where) for cause in diff(base, head)]


def test_same_storage_is_no_difference(nsa):
    played = with_storage(nsa(sites=False), OPENED, stored("aa"), stored("bb"))
    assert causes(played, played) == []


def test_pages_that_are_not_stored_any_more_are_one_cause(nsa):
    base = with_storage(nsa(sites=False), OPENED, stored("aa"), stored("bb"))
    head = with_storage(nsa(sites=False), OPENED)
    assert causes(base, head) == [(Kind.TRANSFER_REMOVED, "storage store KV page aa in storage")]


def test_page_under_another_key_is_a_changed_key(nsa):
    base = with_storage(nsa(sites=False), OPENED, stored("aa"))
    head = with_storage(nsa(sites=False), OPENED, stored("cc"))
    assert causes(base, head) == [
        (Kind.STORAGE_KEY_CHANGED, "storage store KV page cc in storage"),
    ]


def test_ranks_that_storage_is_told_are_keys(nsa):
    other = msgspec.structs.replace(OPENED, key="tp_rank=2")
    base, head = (with_storage(nsa(sites=False), one, stored("aa")) for one in (OPENED, other))
    assert causes(base, head) == [(Kind.STORAGE_KEY_CHANGED, "storage open in build")]


def test_page_of_other_bytes_is_a_changed_transfer(nsa):
    base = with_storage(nsa(sites=False), OPENED, stored("aa"))
    head = with_storage(nsa(sites=False), OPENED, stored("aa", bytes=576))
    assert causes(base, head) == [(Kind.TRANSFER_CHANGED, "storage store KV page aa in storage")]


def test_lost_pages_do_not_hide_behind_an_argument_of_their_pool(nsa):
    base = with_storage(nsa(sites=False), OPENED, stored("aa"))
    head = with_storage(nsa("drop override in attach", sites=False), OPENED)
    kinds = [kind for kind, _ in causes(base, head)]
    assert kinds.count(Kind.TRANSFER_REMOVED) == 1
    assert Kind.ARGUMENT_DROPPED in kinds


def test_what_an_argument_closes_follows_from_it(nsa):
    base = with_storage(nsa(sites=False), OPENED, stored("aa"))
    head = with_storage(nsa("drop override in attach", sites=False))
    assert Kind.TRANSFER_REMOVED not in [kind for kind, _ in causes(base, head)]


def accesses(key="aa", *operations, **fields):
    return [stored(key, operation=one, **fields) for one in operations]


THREADS = ("fetch", "query", "store")


def test_page_that_is_stored_under_another_key_comes_before_its_fetch_whatever_thread_is_first(nsa):
    base = with_storage(nsa(sites=False), OPENED, *accesses("aa", *THREADS))
    head = with_storage(nsa(sites=False), OPENED, *accesses("cc", *THREADS))
    [cause] = diff(base, head)
    assert (cause.kind, cause.where) == (
        Kind.STORAGE_KEY_CHANGED,
        "storage store KV page cc in storage",
    )
    assert [(one.kind, one.where) for one in cause.consequences] == [
        (Kind.STORAGE_KEY_CHANGED, "storage query KV page cc in storage"),
        (Kind.STORAGE_KEY_CHANGED, "storage fetch KV page cc in storage"),
    ]


def test_page_that_is_stored_as_before_and_not_found_is_a_cause_where_it_is_looked_for(nsa):
    base = with_storage(nsa(sites=False), OPENED, *accesses("aa", *THREADS))
    other = [*accesses("aa", "fetch"), *accesses("cc", "query"), *accesses("aa", "store")]
    head = with_storage(nsa(sites=False), OPENED, *other)
    assert causes(base, head) == [(Kind.STORAGE_KEY_CHANGED, "storage query KV page cc in storage")]


def test_fetch_from_one_backend_does_not_follow_from_what_another_one_stores(nsa):
    one, other = {"backend": "file", "pool": ""}, {"backend": "mooncake", "pool": ""}
    base = with_storage(
        nsa(sites=False), OPENED, *accesses("aa", "store", **one), *accesses("aa", "fetch", **other)
    )
    head = with_storage(
        nsa(sites=False), OPENED, *accesses("cc", "store", **one), *accesses("cc", "fetch", **other)
    )
    assert causes(base, head) == [
        (Kind.STORAGE_KEY_CHANGED, "storage store page cc in storage"),
        (Kind.STORAGE_KEY_CHANGED, "storage fetch page cc in storage"),
    ]


def test_page_of_other_bytes_is_fetched_with_them(nsa):
    base = with_storage(nsa(sites=False), OPENED, *accesses("aa", "fetch", "store"))
    wider = accesses("aa", "fetch", "store", bytes=576)
    head = with_storage(nsa(sites=False), OPENED, *wider)
    [cause] = diff(base, head)
    assert cause.where == "storage store KV page aa in storage"
    assert [one.where for one in cause.consequences] == ["storage fetch KV page aa in storage"]
