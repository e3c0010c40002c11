"""Read before ready: rows that are read without waiting for the load that writes them."""

from collections.abc import Iterator
from dataclasses import replace

from traces.audit.assembly_calls import Recordings
from traces.audit.finding import definition_location, own_location
from traces.audit.origins import stack_origin
from traces.schema.model import (
    HOST,
    Event,
    EventAwaited,
    EventRecorded,
    Location,
    Reading,
    Recording,
    RoundTrip,
    Transfer,
)
from traces.schema.pools import PoolAccessor
from traces.schema.races import Race, RaceAccess
from traces.schema.verdict import Cause, Kind

_ATTENTION = "attention"


def unready_reads(recordings: Recordings) -> tuple[Cause, ...]:
    """Return findings about reads, or writes, that nothing orders behind what they need."""
    return tuple(
        cause
        for name, recording in recordings.items()
        for rule in (_accessors, _odd_accessors, _races, _unawaited_layers)
        for cause in rule(name, recording)
    )


def _accessors(name: str, recording: Recording) -> Iterator[Cause]:
    """Yield accessors that hand out rows of a pool on its way without a wait on their stream.

    Rows that nothing loads need no wait; they show as not mirrored.
    """
    digests = recording.trace.digests
    stale = {one.pool for one in digests if isinstance(one, RoundTrip) and not one.equal}
    racing = {
        side.accessor
        for event in recording.trace.events
        if isinstance(event, Race)
        for side in (event.first, event.second)
    }
    for reading in digests:
        if not isinstance(reading, Reading) or reading.waited:
            continue
        is_late = not reading.equal and reading.pool not in stale
        if reading.accessor not in racing and not is_late:
            continue
        got = "and read right rows by luck" if reading.equal else "and read stale rows"
        owner, accessor = f"device.{reading.pool}", reading.accessor
        yield _unready(
            name,
            recording,
            where=f"{owner} {accessor}",
            message=f"{accessor} of {owner} waits for no layer to be loaded, {got}.",
            values=("waits for the layer", "does not wait"),
        )


def _odd_accessors(name: str, recording: Recording) -> Iterator[Cause]:
    """Yield accessors that do not wait for rows for which others of the same pool wait.

    Where none of a pool waits, the pool in front of it does. Those whose rows were read are judged
    by what was read.
    """
    accessors = [one for one in recording.trace.digests if isinstance(one, PoolAccessor)]
    guarded = {(one.holder, plane) for one in accessors if one.waited for plane in one.planes}
    for one in accessors:
        planes = [plane for plane in one.planes if (one.holder, plane) in guarded]
        if one.waited or one.read or not planes:
            continue
        method = f"{one.holder}.{one.method}"
        yield _unready(
            name,
            recording,
            where=method,
            message=f"{method} hands out {planes[0]} and waits for no layer to be loaded; other "
            f"accessors of {one.holder} do.",
            values=("waits for the layer", "does not wait"),
            location=definition_location(recording, method),
        )


def _races(name: str, recording: Recording) -> Iterator[Cause]:
    """Yield the races of the simulated device: two accesses that no event orders.

    Those of an accessor that does not wait are said by its own finding.
    """
    sites = recording.sites
    first_of: dict[str, tuple[int, Race]] = {}
    readings = (one for one in recording.trace.digests if isinstance(one, Reading))
    hasty = {one.accessor for one in readings if not one.waited}
    for index, event in enumerate(recording.trace.events):
        if isinstance(event, Race) and not hasty & {event.first.accessor, event.second.accessor}:
            first_of.setdefault(_race_subject(event), (index, event))
    for where, (index, race) in first_of.items():
        yield _unready(
            name,
            recording,
            where=where,
            message=f"Nothing orders these two: {race.text}.",
            values=("ordered", "not ordered"),
            location=own_location(sites.events[index]) if sites is not None else None,
        )


def _race_subject(race: Race) -> str:
    """Return buffer and operations of a race: ``KV.v_buffer: backup and attention writes``."""
    sides = sorted((race.first, race.second), key=lambda side: side.operation == _ATTENTION)
    operations = " and ".join(map(_operation, sides))
    return f"{race.pool}.{race.buffer}: {operations}" if race.pool else operations


def _operation(side: RaceAccess) -> str:
    return f"{_ATTENTION} {side.access}s" if side.operation == _ATTENTION else side.operation


def _unawaited_layers(name: str, recording: Recording) -> Iterator[Cause]:
    """Yield pools of which a layer was loaded and no other stream ever waited for it."""
    events, sites = recording.trace.events, recording.sites
    awaited = {
        (event.step, event.name)
        for event in events
        if isinstance(event, EventAwaited) and event.stream != HOST
    }
    for position, event in enumerate(events):
        if not isinstance(event, Transfer) or event.direction != "load":
            continue
        mark = _next_record(events, position, stream=event.stream)
        if mark is None or mark.layer != event.layer or (mark.step, mark.name) in awaited:
            continue
        yield _unready(
            name,
            recording,
            where=f"load of {event.pool}.{event.plane}",
            message=f"Layer {event.layer} of {event.pool}.{event.plane} is loaded in step "
            f"{event.step}, and no reader waits for {mark.name}.",
            values=("awaited", "not awaited"),
            location=own_location(sites.events[position]) if sites is not None else None,
        )


def _next_record(events: tuple[Event, ...], position: int, *, stream: str) -> EventRecorded | None:
    records = (event for event in events[position + 1 :] if isinstance(event, EventRecorded))
    return next((record for record in records if record.stream == stream), None)


def _unready(
    name: str,
    recording: Recording,
    *,
    where: str,
    message: str,
    values: tuple[str, str],
    location: Location | None = None,
) -> Cause:
    origin = stack_origin(recording)
    placed = replace(origin, callee=None, location=location or origin.location)
    return placed.finding(Kind.READ_BEFORE_READY, name, where=where, message=message, values=values)
