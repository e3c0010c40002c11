"""Rows that a poisoned round trip did not restore: never moved, or stale."""

from collections.abc import Iterator

import msgspec

from traces.audit.assembly_calls import Recordings
from traces.audit.origins import host_pool_origin, stack_origin
from traces.schema.model import Recording, RoundTrip, Transfer
from traces.schema.verdict import Cause, Consequence, Kind, Level


def unrestored_rows(recordings: Recordings) -> tuple[Cause, ...]:
    """Return one finding for each kind of row that a load did not bring back.

    Rows that no transfer ever moved were declared by a device pool and not assembled; others came
    back stale.
    """
    return tuple(cause for name, one in recordings.items() for cause in _of_scenario(name, one))


def _of_scenario(name: str, recording: Recording) -> Iterator[Cause]:
    moved = {
        (pool, event.plane)
        for event in recording.trace.events
        if isinstance(event, Transfer)
        for pool in (event.pool, event.device_pool)
    }
    for trip in recording.trace.digests:
        if not isinstance(trip, RoundTrip) or (trip.equal and not trip.foreign_slots):
            continue
        if trip.equal or not trip.plane or (trip.pool, trip.plane) in moved:
            yield _stale(name, recording, trip)
        else:
            yield _not_assembled(name, recording, trip)


def _stale(name: str, recording: Recording, trip: RoundTrip) -> Cause:
    origin = host_pool_origin(recording, trip.pool)
    got = "came back with other bytes" if not trip.equal else "were loaded beside their slots"
    return origin.finding(
        Kind.STALE_AFTER_RESTORE,
        name,
        where=f"{origin.builder}: device.{trip.rows}",
        message=f"Rows of device.{trip.rows} {got} after a backup and a load.",
        values=({"equal": True, "foreign_slots": ""}, _slot_report(trip)),
    )


def _not_assembled(name: str, recording: Recording, trip: RoundTrip) -> Cause:
    origin = stack_origin(recording)
    stale = Consequence(
        kind=Kind.STALE_AFTER_RESTORE,
        where=f"round trip {trip.rows} in {trip.step}",
        before=None,
        after=_slot_report(trip),
        level=Level.BEHAVIOUR,
        count=1,
    )
    finding = origin.finding(
        Kind.DECLARED_NOT_ASSEMBLED,
        name,
        where=f"{origin.builder}: device.{trip.rows}",
        message=f"device.{trip.rows} has a row for every slot, and no transfer ever moves one: "
        "after a load it holds what it held before.",
        values=("moved by backup and load", "never moved"),
    )
    return msgspec.structs.replace(finding, consequences=(stale,))


def _slot_report(trip: RoundTrip) -> dict[str, object]:
    return {name: getattr(trip, name) for name in ("equal", "wrong_slots", "foreign_slots")}
