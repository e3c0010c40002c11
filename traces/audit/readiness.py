"""Read before ready: rows that are read without waiting for the load that writes them."""

import re
from collections.abc import Iterator

from traces.audit.assembly_calls import Recordings
from traces.audit.finding import make_finding, to_location
from traces.audit.origins import stack_origin
from traces.audit.plane_names import is_accessor_read, split_accessor
from traces.schema.model import (
    Event,
    EventAwaited,
    EventRecorded,
    Location,
    Message,
    Recording,
    RoundTrip,
    Transfer,
)
from traces.schema.verdict import Cause, Kind

_RACE = "race: "
_LAYER = re.compile(r"(\S+)\[\d+\]")
_NUMBER = re.compile(r"\d+")
_ATTENTION = re.compile(r"attention (reads|writes)")
_TO_HOST, _FROM_HOST = " to host pool ", " host pool to "
_HOST = "host"
# What our own controller records behind each layer of a load.
_LAYER_MARK = "load.layer"


def unready_reads(recordings: Recordings) -> tuple[Cause, ...]:
    """Return findings about reads, or writes, that nothing orders behind what they need."""
    return tuple(
        cause
        for name, recording in recordings.items()
        for cause in (
            *_accessors(name, recording),
            *_races(name, recording),
            *_unawaited_layers(name, recording),
        )
    )


def _accessors(name: str, recording: Recording) -> Iterator[Cause]:
    """Yield accessors that hand out rows of a pool on its way without a wait on their stream.

    Rows that nothing loads need no wait; they show as not mirrored.
    """
    trips = [trip for trip in recording.trace.digests if isinstance(trip, RoundTrip)]
    races = [
        event.text
        for event in recording.trace.events
        if isinstance(event, Message) and event.text.startswith(_RACE)
    ]
    waiting = {event.stream for event in recording.trace.events if isinstance(event, EventAwaited)}
    for trip in trips:
        owner, accessor = split_accessor(trip.pool)
        if not accessor or f"read.{accessor}" in waiting:
            continue
        is_restored = all(
            other.equal
            for other in trips
            if other.pool.partition(".")[0] == owner and not is_accessor_read(other.pool)
        )
        raced = any(f" by {accessor} " in text for text in races)
        if not raced and (trip.equal or not is_restored):
            continue
        told = "and read right rows by luck" if trip.equal else "and read stale rows"
        yield _unready(
            name,
            recording,
            where=f"device.{owner} {accessor}",
            message=f"{accessor} of device.{owner} waits for no layer to be loaded, {told}.",
            before="waits for the layer",
            after="does not wait",
            location=None,
        )


def _races(name: str, recording: Recording) -> Iterator[Cause]:
    """Yield what the simulated device reported: two accesses that no event orders."""
    told: dict[str, str] = {}
    for event in recording.trace.events:
        if isinstance(event, Message) and event.text.startswith(_RACE):
            text = event.text.removeprefix(_RACE)
            told.setdefault(_race_subject(text), text)
    for where, text in told.items():
        yield _unready(
            name,
            recording,
            where=where,
            message=f"Nothing orders these two: {text}.",
            before="ordered",
            after="not ordered",
            location=None,
        )


def _race_subject(text: str) -> str:
    """Return what a race is about: ``KV.v_buffer: backup and attention writes``."""
    place = _LAYER.search(text)
    access = _ATTENTION.search(text)
    direction = "backup" if _TO_HOST in text else "load" if _FROM_HOST in text else ""
    if place is None or access is None or not direction:
        return _NUMBER.sub("*", text)
    return f"{place[1]}: {direction} and {access[0]}"


def _unawaited_layers(name: str, recording: Recording) -> Iterator[Cause]:
    """Yield pools of which a layer was loaded and no other stream ever waited for it."""
    events = recording.trace.events
    awaited = {
        (event.step, event.name)
        for event in events
        if isinstance(event, EventAwaited) and event.stream != _HOST
    }
    sites = recording.sites
    for position, event in enumerate(events):
        if not isinstance(event, Transfer) or event.direction != "load":
            continue
        mark = _next_record(events, position, stream=event.stream)
        if mark is not None and mark.name.startswith(_LAYER_MARK) and _key(mark) not in awaited:
            yield _unready(
                name,
                recording,
                where=f"load of {event.pool}.{event.plane}",
                message=f"Layer {event.layer} of {event.pool}.{event.plane} is loaded in step "
                f"{event.step}, and no reader waits for {mark.name}.",
                before="awaited",
                after="not awaited",
                location=to_location(sites.events[position]) if sites is not None else None,
            )


def _key(mark: EventRecorded) -> tuple[str, str]:
    return mark.step, mark.name


def _next_record(events: tuple[Event, ...], position: int, *, stream: str) -> EventRecorded | None:
    for event in events[position + 1 :]:
        if isinstance(event, EventRecorded) and event.stream == stream:
            return event
    return None


def _unready(
    name: str,
    recording: Recording,
    *,
    where: str,
    message: str,
    before: str,
    after: str,
    location: Location | None,
) -> Cause:
    origin = stack_origin(recording)
    return make_finding(
        Kind.READ_BEFORE_READY,
        where=where,
        message=message,
        builder=origin.builder,
        callee=None,
        parameter=None,
        before=before,
        after=after,
        location=location or origin.location,
        scenarios=(name,),
        consequences=(),
    )
