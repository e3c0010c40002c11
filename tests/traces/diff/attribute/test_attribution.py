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
