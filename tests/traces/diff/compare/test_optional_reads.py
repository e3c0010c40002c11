"""What only one side could be asked tells nothing about either."""

import msgspec

from traces.diff import compare_sides
from traces.diff.compare.optional_reads import without_unshared_reads
from traces.schema.model import EventAwaited, Race, RaceAccess, Reading
from traces.schema.verdict import Kind


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
