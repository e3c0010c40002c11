import msgspec
import pytest

from traces.diff import diff
from traces.schema.copies import Copy
from traces.schema.model import (
    EventAwaited,
    EventRecorded,
    Location,
    Message,
    Transfer,
)
from traces.schema.races import Race, RaceAccess
from traces.schema.verdict import Kind, Level

STEPS = 820
LAYERS = 61


def transfer(layer, **fields):
    made = Transfer(
        step="load",
        direction="load",
        pool="KV",
        device_pool="KV",
        plane="kv",
        layer=layer,
        device_slots="64-127",
        host_slots="0-63",
        rows=64,
        row_bytes=656,
        bytes=64 * 656,
        backend="kernel",
        stream="load",
    )
    return msgspec.structs.replace(made, **fields)


def copy(name, slot):
    return Copy(
        step="load",
        pool="Pool",
        operation="copy_",
        source=f"device.Pool.{name}",
        source_offset=16 * slot,
        target=f"host.Pool.{name}",
        target_offset=16 * slot,
        indices=(),
        shape=(16,),
        bytes=64,
        stream="",
    )


def recorded(layer):
    return EventRecorded(step="load", name=f"load.layer{layer}", stream="load", layer=layer)


def awaited(layer):
    return EventAwaited(step="load", name=f"load.layer{layer}", stream="default")


def wheres(cause):
    return [(one.kind.value, one.where) for one in cause.consequences]


def test_lost_wait_is_the_cause_of_wrong_content(nsa):
    """sglang #22811: index reads did not wait for the load."""
    (cause,) = diff(nsa(), nsa("drop wait in read"))

    assert (cause.kind, cause.level, cause.count) == (Kind.ORDER_EDGE_REMOVED, Level.BEHAVIOUR, 2)
    assert cause.where == "wait load.layer0 on default in load"
    assert (cause.builder, cause.callee) == (
        "build_shared_anchor_stack",
        "HybridCacheController.load",
    )
    assert wheres(cause) == [("digest_changed", "round trip KV in load")]
    digest = cause.consequences[0]
    assert digest.before == {"equal": True, "wrong_slots": "", "foreign_slots": ""}
    assert digest.after == {"equal": False, "wrong_slots": "64-127", "foreign_slots": ""}


def test_lost_wait_is_found_where_it_was(nsa):
    (cause,) = diff(nsa(), nsa("drop wait in read"))

    assert cause.location == Location(file="assembler/hybrid.py", line=170)


def test_lost_wait_against_a_golden_is_found_near_the_edge_before_it(nsa):
    (cause,) = diff(nsa(sites=False), nsa("drop wait in read"))

    assert cause.location == Location(file="assembler/hybrid.py", line=150)


def waits_in_a_file_of_their_own(recording):
    """Place every wait of the reader in a file that has no other line."""
    places = [
        Location(file="assembler/gate.py", line=33) if is_wait_of_the_reader(event) else site
        for event, site in zip(recording.trace.events, recording.sites.events, strict=True)
    ]
    sites = msgspec.structs.replace(recording.sites, events=tuple(places))
    return msgspec.structs.replace(recording, sites=sites)


def is_wait_of_the_reader(event):
    return isinstance(event, EventAwaited) and event.stream == "default"


def test_lost_wait_whose_line_cannot_be_carried_over_is_found_where_the_base_had_it(nsa):
    (cause,) = diff(waits_in_a_file_of_their_own(nsa()), nsa("drop wait in read"))

    assert cause.location == Location(file="assembler/gate.py", line=33)


def test_lost_wait_is_found_near_another_edge_only_where_the_base_has_no_line(nsa):
    """Control: the same base, but nobody knows where its events came from."""
    base = waits_in_a_file_of_their_own(nsa())
    nowhere = msgspec.structs.replace(base.sites, events=tuple(None for _ in base.sites.events))

    (cause,) = diff(msgspec.structs.replace(base, sites=nowhere), nsa("drop wait in read"))

    assert cause.location == Location(file="assembler/hybrid.py", line=150)


def test_new_wait_is_found_at_its_line(nsa):
    (cause,) = diff(nsa("drop wait in read"), nsa())

    assert cause.kind == Kind.ORDER_EDGE_ADDED
    assert cause.location == Location(file="assembler/hybrid.py", line=170)


def test_lost_transfer_is_the_cause_of_wrong_content(nsa):
    (cause,) = diff(nsa(), nsa("drop load of layer 1"))

    assert (cause.kind, cause.count) == (Kind.TRANSFER_REMOVED, 1)
    assert cause.where == "load KV.kv layer 1 in load"
    assert cause.location == Location(file="assembler/mla.py", line=88)
    assert wheres(cause) == [("digest_changed", "round trip KV in load")]


def test_lost_transfers_of_one_plane_are_counted(nsa):
    (cause,) = diff(nsa(), nsa("drop backup of the indexer"))

    assert (cause.kind, cause.count) == (Kind.TRANSFER_REMOVED, 2)


def test_lost_wait_and_lost_transfer_are_two_causes(nsa):
    first, second = diff(nsa(), nsa("drop load of layer 1", "drop wait in read"))

    assert first.kind == Kind.TRANSFER_REMOVED
    assert second.kind == Kind.ORDER_EDGE_REMOVED


def test_skipped_layer_is_one_cause_with_both_ends_of_its_edge(records):
    def loads(layers):
        events = [event for layer in layers for event in (transfer(layer), recorded(layer))]
        return records.trace(events=(*events, *(awaited(layer) for layer in layers)))

    (cause,) = diff(loads([0, 1, 2]), loads([0, 2]))

    assert (cause.kind, cause.where) == (Kind.TRANSFER_REMOVED, "load KV.kv layer 1 in load")
    assert wheres(cause) == [
        ("order_edge_removed", "record load.layer1 on load in load"),
        ("order_edge_removed", "wait load.layer1 on default in load"),
    ]


def test_wait_that_moved_behind_the_transfer_is_a_lost_edge(records):
    base = records.trace(events=(awaited(0), transfer(0)))
    head = records.trace(events=(transfer(0), awaited(0)))

    (cause,) = diff(base, head)

    assert cause.kind == Kind.ORDER_EDGE_REMOVED
    assert wheres(cause) == [("order_edge_added", "wait load.layer0 on default in load")]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bytes", 64 * 576),
        ("device_slots", "128-191"),
        ("host_slots", "64-127"),
        ("backend", "direct"),
        ("stream", "write"),
    ],
)
def test_transfer_with_another_field_shows_only_that_field(records, field, value):
    changed = transfer(0, **{field: value})

    (cause,) = diff(records.trace(events=(transfer(0),)), records.trace(events=(changed,)))

    assert cause.kind == Kind.TRANSFER_CHANGED
    assert cause.after == {field: value}


def test_other_slots_are_the_cause_of_what_the_operation_gives_back(nsa):
    (cause,) = diff(nsa(), nsa("slots start elsewhere"))

    assert (cause.kind, cause.where) == (Kind.TRANSFER_CHANGED, "alloc host.KV in write")
    assert wheres(cause) == [("outcome_changed", "HybridCacheController.write returns")]


def test_new_warning_is_a_changed_outcome(records):
    warned = Message(step="load", level="warning", text="layout is not supported")

    (cause,) = diff(records.trace(), records.trace(events=(warned,)))

    assert (cause.kind, cause.where) == (Kind.OUTCOME_CHANGED, "warning message in load")


def race(*, second="load", text="load and read"):
    first = RaceAccess(operation="attention", accessor="", on="stream", access="write")
    other = RaceAccess(operation=second, accessor="", on="stream", access="read")
    return Race(step="load", pool="KV", buffer="kv", layer=0, first=first, second=other, text=text)


def test_race_that_is_told_in_other_words_is_the_same(records):
    """Its text names the functions that copy, and a release chooses other ones."""
    old, new = race(), race(text="staged load and read")

    assert diff(records.trace(events=(old,)), records.trace(events=(new,))) == ()


def test_race_of_another_operation_is_a_difference_with_its_text(records):
    old, new = race(), race(second="backup", text="backup and read")

    (cause,) = diff(records.trace(events=(old,)), records.trace(events=(new,)))

    assert (cause.kind, cause.where) == (Kind.OUTCOME_CHANGED, "race in load")
    assert (cause.before, cause.after) == ({"text": "load and read"}, None)


def test_exception_in_a_step_explains_all_that_is_missing_after_it(nsa):
    (cause,) = diff(nsa(), nsa("boom in write"))

    assert (cause.kind, cause.where) == (Kind.OUTCOME_CHANGED, "outcome")
    assert (cause.before, cause.after) == ("ok", "RuntimeError: boom in write")
    assert cause.callee == "HybridCacheController.write"
    assert ("transfer_removed", "load KV.kv layer * in load") in wheres(cause)
    assert ("call_removed", "HybridCacheController.load") in wheres(cause)


def test_lost_operation_is_the_cause_of_its_lost_events(records):
    events = (transfer(0),)
    load = records.operation("Controller.load#1", step="load")

    (cause,) = diff(records.trace(load, events=events), records.trace())

    assert (cause.kind, cause.callee) == (Kind.CALL_REMOVED, "Controller.load")
    assert wheres(cause) == [("transfer_removed", "load KV.kv layer 0 in load")]


def test_operation_after_events_that_differ_is_a_consequence(records):
    load, evict = (
        records.operation("Controller.load#1", step="load"),
        records.operation("Controller.evict_host#1", step="evict"),
    )
    base = records.trace(load, events=(transfer(0),))
    head = records.trace(load, evict)

    (cause,) = diff(base, head)

    assert cause.kind == Kind.TRANSFER_REMOVED
    assert wheres(cause) == [("call_added", "Controller.evict_host")]


def test_one_lost_event_of_a_hundred_thousand_is_one_cause_and_nothing_else(records):
    events = [
        event
        for _ in range(STEPS)
        for layer in range(LAYERS)
        for event in (transfer(layer), recorded(layer))
    ]
    lost = 50_001
    base = records.trace(events=tuple(events))
    head = records.trace(events=(*events[:lost], *events[lost + 1 :]))

    (cause,) = diff(base, head)

    assert len(events) == 100_040
    assert (cause.kind, cause.count, cause.consequences) == (Kind.ORDER_EDGE_REMOVED, 1, ())
    # 50_001 = 122 * 409 + 103, and event 103 of a round is the record of layer 51.
    assert cause.where == "record load.layer51 on load in load"


def test_transfers_that_happen_elsewhere_follow_from_the_edge_that_is_lost(records):
    other = transfer(0, pool="SWA", device_pool="SWA")
    base = records.trace(events=(recorded(0), transfer(0), awaited(0), other))
    head = records.trace(events=(recorded(0), other, transfer(0)))

    (cause,) = diff(base, head)

    assert (cause.kind, cause.where) == (
        Kind.ORDER_EDGE_REMOVED,
        "wait load.layer0 on default in load",
    )
    assert {one.kind for one in cause.consequences} == {
        Kind.TRANSFER_REMOVED,
        Kind.TRANSFER_ADDED,
    }


def test_transfers_that_only_happen_elsewhere_are_one_cause(records):
    other = transfer(0, pool="SWA", device_pool="SWA")
    base = records.trace(events=(transfer(0), other))
    head = records.trace(events=(other, transfer(0)))

    kinds = [cause.kind for cause in diff(base, head)]
    assert len(kinds) == 1
    assert kinds[0] in (Kind.TRANSFER_REMOVED, Kind.TRANSFER_ADDED)


def test_copies_that_change_places_in_every_round_are_said_to_be_elsewhere(records):
    rounds = [(copy("k", slot), copy("v", slot)) for slot in range(2)]
    base = records.trace(events=[one for pair in rounds for one in pair])
    head = records.trace(events=[one for pair in rounds for one in reversed(pair)])

    (cause,) = diff(base, head)

    assert cause.message == (
        "copy_ device.Pool.k to host.Pool.k in load happens at another place in the order of "
        "transfers."
    )


def test_copy_that_is_lost_beside_others_that_move_is_said_to_be_lost(records):
    """Control."""
    base = records.trace(events=[copy("k", 0), copy("v", 0), copy("k", 1), copy("v", 1)])
    head = records.trace(events=[copy("v", 0), copy("k", 0), copy("v", 1)])

    lost = [cause for cause in diff(base, head) if cause.kind is Kind.TRANSFER_REMOVED]

    assert [cause.message for cause in lost] == [
        "copy_ device.Pool.k to host.Pool.k in load no longer happens."
    ]


def test_a_lost_transfer_stays_a_cause_beside_a_lost_edge(records):
    other = transfer(0, pool="SWA", device_pool="SWA")
    base = records.trace(events=(recorded(0), transfer(0), awaited(0), other))
    head = records.trace(events=(recorded(0), other))

    assert diff(base, head)[0].kind is Kind.TRANSFER_REMOVED
