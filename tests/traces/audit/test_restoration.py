"""What a poisoned round trip did not bring back, told apart by whether anything ever moved it."""

import pytest

from traces.audit.restoration import unrestored_rows
from traces.schema.model import TreeMatch


def found_in(recording):
    return [(str(cause.kind), cause.where) for cause in unrestored_rows({"a": recording})]


@pytest.fixture
def stack(made):
    """A stack of one builder that makes a group at line 12 and a host pool at line 7."""
    calls = (
        made.call("build_kv_only_stack#1", {"size": 8}, role="builder"),
        made.call(
            "Host#1",
            {"device_pool": {"ref": "Pool#1"}},
            parent="build_kv_only_stack#1",
            line=7,
            returns={"ref": "Host#1"},
        ),
        made.call("HostPoolGroup#1", {"entries": []}, parent="build_kv_only_stack#1", line=12),
    )
    host = made.tensor(owner="host.KV", name="kv_buffer", shape=(3, 576, 1, 656), object="Host#1")
    return lambda **records: made.recording("a", *calls, tensors=(host,), **records)


def test_equal_round_trips_are_no_findings(made, stack):
    assert found_in(stack(digests=[made.trip()], events=[made.transfer()])) == []


def test_rows_that_no_transfer_moved_were_not_assembled(made, stack):
    recording = stack(
        digests=[made.trip("KV.index_k", wrong="64-127"), made.trip("KV.kv_buffer")],
        events=[made.transfer(), made.transfer("load")],
    )
    [cause] = unrestored_rows({"a": recording})
    assert (str(cause.kind), cause.where) == (
        "declared_not_assembled",
        "build_kv_only_stack: device.KV.index_k",
    )
    assert cause.location.line == 12
    [consequence] = cause.consequences
    assert str(consequence.kind) == "stale_after_restore"
    assert consequence.after == {"equal": False, "wrong_slots": "64-127", "foreign_slots": ""}


def test_rows_that_were_moved_and_are_wrong_came_back_stale(made, stack):
    recording = stack(digests=[made.trip(wrong="64")], events=[made.transfer()])
    [cause] = unrestored_rows({"a": recording})
    assert (str(cause.kind), cause.where) == (
        "stale_after_restore",
        "build_kv_only_stack: device.KV.kv_buffer",
    )
    assert cause.location.line == 7


def test_what_a_tree_matched_is_no_buffer(made, stack):
    """Control: the rows in the test above have the same wrong slots."""
    match = TreeMatch(
        step="tree", sequence="first", phase="evicted", found=False, missing="64", elsewhere=""
    )
    assert found_in(stack(digests=[match], events=[])) == []


def test_a_sidecar_of_the_anchor_moves_the_anchors_rows(made, stack):
    moved = made.transfer(pool="INDEXER", device_pool="KV", plane="index_k_with_scale_buffer")
    recording = stack(
        digests=[made.trip("KV.index_k_with_scale_buffer", wrong="64")], events=[moved]
    )
    assert found_in(recording)[0][0] == "stale_after_restore"


def test_a_sidecar_of_the_anchor_does_not_move_the_drafts_rows(made, stack):
    moved = made.transfer(pool="INDEXER", device_pool="KV", plane="index_k_with_scale_buffer")
    recording = stack(
        digests=[
            made.trip("KV.index_k_with_scale_buffer"),
            made.trip("DRAFT.index_k_with_scale_buffer", wrong="64"),
        ],
        events=[moved],
    )
    assert found_in(recording) == [
        (
            "declared_not_assembled",
            "build_kv_only_stack: device.DRAFT.index_k_with_scale_buffer",
        )
    ]


def test_a_packed_draft_is_moved_with_the_target(made, stack):
    records = {"digests": [made.trip("KV.kv_buffer"), made.trip("DRAFT.kv_buffer", wrong="64")]}
    packed = stack(**records, events=[made.transfer(device_pool="DRAFT")])
    alone = stack(**records, events=[made.transfer()])
    assert found_in(packed)[0][0] == "stale_after_restore"
    assert found_in(alone)[0][0] == "declared_not_assembled"


def test_rows_beside_their_slots_are_a_finding_though_their_own_are_right(made, stack):
    recording = stack(digests=[made.trip(foreign="3")], events=[made.transfer()])
    assert found_in(recording)[0][0] == "stale_after_restore"


def test_a_round_trip_of_a_whole_pool_is_stale(made, stack):
    recording = stack(digests=[made.trip("KV", wrong="64")])
    assert found_in(recording) == [("stale_after_restore", "build_kv_only_stack: device.KV")]


def test_reading_through_an_accessor_is_another_rule(made, stack):
    recording = stack(digests=[made.reading(equal=False)])
    assert found_in(recording) == []
