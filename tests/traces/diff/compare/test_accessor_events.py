"""Comparison of what a package's accessors read: those that one side lacks are no difference."""

import msgspec

from traces.diff import compare_sides
from traces.diff.compare.events import without_unshared_reads
from traces.schema.device_waits import DeviceAwaited
from traces.schema.model import (
    EventAwaited,
    Location,
    Reading,
)
from traces.schema.pools import HostCopy
from traces.schema.races import Race, RaceAccess
from traces.schema.verdict import Kind, Level


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


GET, LOAD = "pool.get_copy", "pool.load_copy"


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


def test_copies_of_a_pool_that_one_side_lacks_are_no_difference(nsa):
    waits = [(GET, 10), (LOAD, 20)]
    old = with_copies(nsa(), "pool", waits=waits)
    more = [*waits, ("other.get_copy", 30), ("other.load_copy", 40)]
    new = with_copies(nsa(), "pool", "other", waits=more)

    assert compare_sides({"nsa": old}, {"nsa": new}) == ()


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
