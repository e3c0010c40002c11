"""Declared against assembled: what a poisoned round trip did not bring back."""

from collections.abc import Iterator

from traces.audit.assembly_calls import Recordings
from traces.audit.finding import make_finding
from traces.audit.origins import AssemblyOrigin, object_origin, stack_origin
from traces.audit.plane_names import PACKED_DRAFT, is_accessor_read, is_same_plane, is_tree_match
from traces.schema.model import Recording, RoundTrip, Transfer
from traces.schema.verdict import Cause, Consequence, Kind, Level

_ANCHOR = "KV"
_DRAFT = "DRAFT"


def unrestored_rows(recordings: Recordings) -> tuple[Cause, ...]:
    """Return one finding for each kind of row that a load did not bring back.

    Rows that no transfer ever moved were declared by a device pool and not assembled; others came
    back stale.
    """
    return tuple(
        cause for name, recording in recordings.items() for cause in _of_scenario(name, recording)
    )


def _of_scenario(name: str, recording: Recording) -> Iterator[Cause]:
    for trip in recording.trace.digests:
        if (
            not isinstance(trip, RoundTrip)
            or is_accessor_read(trip.pool)
            or is_tree_match(trip.pool)
        ):
            continue
        if trip.equal and not trip.foreign_slots:
            continue
        owner, _, plane = trip.pool.partition(".")
        if trip.equal or not plane or _is_moved(recording, owner, plane):
            yield _stale(name, recording, trip)
        else:
            yield _not_assembled(name, recording, trip)


def _is_moved(recording: Recording, owner: str, plane: str) -> bool:
    """Tell whether any transfer moved rows of a plane, as its own pool or as a sidecar of it."""
    trips = [one for one in recording.trace.digests if isinstance(one, RoundTrip)]
    owners = {one.pool.partition(".")[0] for one in trips}
    is_packed = recording.trace.scenario.config.get("draft") == PACKED_DRAFT
    if is_packed and owner.startswith(_DRAFT):
        return any(
            isinstance(event, Transfer) and is_same_plane(event.plane, plane)
            for event in recording.trace.events
        )
    return any(
        isinstance(event, Transfer)
        and is_same_plane(event.plane, plane)
        and (
            event.pool == owner
            or (event.pool not in owners and _may_hold_rows_of(event.pool, owner))
        )
        for event in recording.trace.events
    )


def _may_hold_rows_of(pool: str, owner: str) -> bool:
    """Tell whether a pool without round trips of its own can hold rows of that owner.

    A host pool that no entry names goes by its class; other names say whose sidecar it is.
    """
    if not pool.isupper():
        return True
    return pool.startswith(owner) or (owner == _ANCHOR and not pool.startswith(_DRAFT))


def _stale(name: str, recording: Recording, trip: RoundTrip) -> Cause:
    owner = trip.pool.partition(".")[0]
    origin = _host_origin(recording, owner)
    got = "came back with other bytes" if not trip.equal else "were loaded beside their slots"
    return _cause(
        Kind.STALE_AFTER_RESTORE,
        name,
        trip,
        origin=origin,
        before={"equal": True, "foreign_slots": ""},
        message=f"Rows of device.{trip.pool} {got} after a backup and a load.",
        consequences=(),
    )


def _not_assembled(name: str, recording: Recording, trip: RoundTrip) -> Cause:
    follows = Consequence(
        kind=Kind.STALE_AFTER_RESTORE,
        where=f"round trip {trip.pool} in {trip.step}",
        before=None,
        after=_slot_report(trip),
        level=Level.BEHAVIOUR,
        count=1,
    )
    return _cause(
        Kind.DECLARED_NOT_ASSEMBLED,
        name,
        trip,
        origin=stack_origin(recording),
        before="moved by backup and load",
        message=f"device.{trip.pool} has a row for every slot, and no transfer ever moves one: "
        "after a load it holds what it held before.",
        consequences=(follows,),
    )


def _cause(
    kind: Kind,
    name: str,
    trip: RoundTrip,
    *,
    origin: AssemblyOrigin,
    before: object,
    message: str,
    consequences: tuple[Consequence, ...],
) -> Cause:
    return make_finding(
        kind,
        where=f"{origin.builder}: device.{trip.pool}",
        message=message,
        builder=origin.builder,
        callee=origin.callee,
        parameter=None,
        before=before,
        after=_slot_report(trip) if kind is Kind.STALE_AFTER_RESTORE else "never moved",
        location=origin.location,
        scenarios=(name,),
        consequences=consequences,
    )


def _host_origin(recording: Recording, owner: str) -> AssemblyOrigin:
    for tensor in recording.trace.tensors:
        if tensor.owner == f"host.{owner}":
            return object_origin(recording, tensor.object)
    return stack_origin(recording)


def _slot_report(trip: RoundTrip) -> dict[str, object]:
    return {
        "equal": trip.equal,
        "wrong_slots": trip.wrong_slots,
        "foreign_slots": trip.foreign_slots,
    }
