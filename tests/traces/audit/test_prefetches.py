"""Tokens that a prefetch keeps although a page of some pool did not arrive."""

import pytest

from traces.audit.prefetches import unbacked_prefetches
from traces.schema.storage_records import StorageMatch


def match(arrived, available):
    return StorageMatch(
        step="tree storage",
        backend="",
        sequence="first",
        phase="INDEXER fails at a page",
        asked=128,
        available=available,
        hits=128,
        arrived=arrived,
        pools={},
        is_over=True,
        equal=None,
    )


def test_tokens_without_their_index_keys_are_a_finding(made):
    recording = made.recording("a", digests=[match(128, 64)])
    [found] = unbacked_prefetches({"a": recording})
    assert str(found.kind) == "stale_after_restore"
    assert found.where == "build_kv_only_stack: prefetch INDEXER fails at a page"
    assert found.message == (
        "A prefetch of 128 tokens, INDEXER fails at a page, keeps 128, and storage hands out the "
        "pages of every pool for 64."
    )


@pytest.mark.parametrize(("arrived", "available"), [(64, 64), (0, 64), (128, None)])
def test_tokens_that_all_arrived_and_those_nobody_knows_of_are_none(made, arrived, available):
    recording = made.recording("a", digests=[match(arrived, available)])
    assert unbacked_prefetches({"a": recording}) == ()
