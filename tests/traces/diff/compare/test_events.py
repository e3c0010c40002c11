import msgspec
import pytest

from traces.diff import compare_sides, diff
from traces.diff.compare.events import without_unshared_reads
from traces.schema.copies import Copy
from traces.schema.device_waits import DeviceAwaited
from traces.schema.model import (
    EventAwaited,
    EventRecorded,
    Location,
    Message,
    Reading,
    Transfer,
)
from traces.schema.pools import HostCopy
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


def reading(accessor, *, equal=True):
    return Reading(
        step="load",
        pool="KV",
        accessor=accessor,
        stream=f"read.{accessor}",
        waited=False,
        equal=equal,
    )


def race(accessor):
    load = RaceAccess(operation="load", accessor="", on="stream", access="write")
    read = RaceAccess(operation="attention", accessor=accessor, on="stream", access="read")
    return Race(
        step="load", pool="KV", buffer="kv", layer=0, first=load, second=read, text="load and read"
    )


def with_readings(recording, *readings, waits=(), races=()):
    trace, sites = recording.trace, recording.sites
    events = (
        *trace.events,
        *(EventAwaited(step="load", name="load#1", stream=f"read.{name}") for name in waits),
        *map(race, races),
    )
    places = (*sites.events, *[None] * (len(events) - len(trace.events)))
    return msgspec.structs.replace(
        recording,
        trace=msgspec.structs.replace(trace, events=events, digests=(*trace.digests, *readings)),
        sites=msgspec.structs.replace(sites, events=places),
    )


def test_new_accessor_is_left_out_with_its_waits_and_races(nsa):
    old = with_readings(nsa(), reading("get_key"), waits=("get_key",))
    new = with_readings(
        nsa(),
        reading("get_key"),
        reading("get_raw", equal=False),
        waits=("get_key", "get_raw"),
        races=("get_raw",),
    )

    assert without_unshared_reads(old, new) == (old, old)
    assert compare_sides({"nsa": old}, {"nsa": new}) == ()


def test_accessor_of_both_sides_that_no_longer_waits_is_a_difference(nsa):
    """Control: the same records, but the base has the accessor too."""
    old = with_readings(nsa(), reading("get_raw"), waits=("get_raw",))
    new = with_readings(
        nsa(),
        reading("get_raw", equal=False),
        races=("get_raw",),
    )

    causes = compare_sides({"nsa": old}, {"nsa": new})

    assert [(cause.kind, cause.where) for cause in causes] == [
        (Kind.ORDER_EDGE_REMOVED, "wait load#1 on read.get_raw in load")
    ]


def test_scenario_that_failed_keeps_all_that_it_read(nsa):
    """It came to no reading: that is a consequence of the failure, not of missing accessors."""
    old = with_readings(nsa(), reading("get_key"))
    new = nsa("boom in write")

    assert without_unshared_reads(old, new) == (old, new)


def test_recordings_without_readings_are_not_searched(nsa):
    old, new = nsa(), nsa("drop wait in read")

    kept = without_unshared_reads(old, new)

    assert kept[0] is old
    assert kept[1] is new


def test_recordings_are_searched_when_the_base_alone_has_readings(nsa):
    """Control: an accessor that only the base has is left out of the base."""
    old = with_readings(nsa(), reading("get_key"), waits=("get_key",))

    assert without_unshared_reads(old, nsa()) == (nsa(), nsa())


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


def host_copy(holder):
    return HostCopy(
        step="copies",
        holder=holder,
        method="get_copy",
        loads="load_copy",
        streams=(f"copy.{holder}.get_copy", f"copy.{holder}.load_copy"),
        planes=("KV.kv",),
        reason="",
    )


def with_copies(recording, *holders, waits):
    """Add copies to the host, and their waits for the device with their lines."""
    trace, sites = recording.trace, recording.sites
    added = [DeviceAwaited(step="copies", stream=f"copy.{stream}") for stream, _ in waits]
    lines = [Location(file="pkg/pool.py", line=line) for _, line in waits]
    return msgspec.structs.replace(
        recording,
        trace=msgspec.structs.replace(
            trace,
            events=(*trace.events, *added),
            digests=(*trace.digests, *map(host_copy, holders)),
        ),
        sites=msgspec.structs.replace(sites, events=(*sites.events, *lines)),
    )


GET, LOAD = "pool.get_copy", "pool.load_copy"


def test_lost_wait_for_the_device_is_a_lost_edge_at_its_line(nsa):
    waits = [(GET, 10), (GET, 15), (LOAD, 20), (LOAD, 25)]
    old = with_copies(nsa(), "pool", waits=waits)
    new = with_copies(nsa(), "pool", waits=[waits[0], *waits[2:]])
    first = with_copies(nsa(), "pool", waits=waits[1:])

    for head, line in ((new, 15), (first, 10)):
        (cause,) = compare_sides({"nsa": old}, {"nsa": head})
        assert (cause.kind, cause.level) == (Kind.ORDER_EDGE_REMOVED, Level.BEHAVIOUR)
        assert cause.where == "wait of the host for the device beside copy.pool.get_copy in copies"
        assert cause.location == Location(file="pkg/pool.py", line=line)


def test_copies_of_a_pool_that_one_side_lacks_are_no_difference(nsa):
    waits = [(GET, 10), (LOAD, 20)]
    old = with_copies(nsa(), "pool", waits=waits)
    more = [*waits, ("other.get_copy", 30), ("other.load_copy", 40)]
    new = with_copies(nsa(), "pool", "other", waits=more)

    assert compare_sides({"nsa": old}, {"nsa": new}) == ()
