"""Readings that only one side can make: what cannot be asked of both tells nothing about either.

A package's pools hand their buffers out through accessors, and releases add and remove some. Each
is read on a stream of its own.
"""

from collections.abc import Iterable, Mapping

import msgspec

from traces.schema.model import (
    Event,
    EventAwaited,
    EventRecorded,
    Race,
    Reading,
    Recording,
    Trace,
)


def without_unshared_reads(base: Recording, head: Recording) -> tuple[Recording, Recording]:
    """Return both recordings without the readings that only one of them made.

    Nothing is left out where neither made any, nor of a scenario that ended in an exception: that
    one may not have come to them.
    """
    if not (base.trace.outcome.ok and head.trace.outcome.ok):
        return base, head
    asked, asked_now = accessors_by_stream(base.trace), accessors_by_stream(head.trace)
    if not (asked or asked_now):
        return base, head
    shared = set(asked.values()) & set(asked_now.values())
    return _keep_shared(base, shared, asked), _keep_shared(head, shared, asked_now)


def accessors_by_stream(trace: Trace) -> dict[str, str]:
    """Return the accessor that reads on each stream of its own."""
    return {one.stream: one.accessor for one in trace.digests if isinstance(one, Reading)}


def accessors_of(event: Event, readers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the accessors whose wait an event is, or that a race is about."""
    if isinstance(event, EventAwaited | EventRecorded):
        return (readers[event.stream],) if event.stream in readers else ()
    if isinstance(event, Race):
        return tuple(side.accessor for side in (event.first, event.second) if side.accessor)
    return ()


def _keep_shared(
    recording: Recording, shared: Iterable[str], readers: Mapping[str, str]
) -> Recording:
    trace, sites = recording.trace, recording.sites
    wanted = set(shared)
    kept = [
        i for i, event in enumerate(trace.events) if wanted.issuperset(accessors_of(event, readers))
    ]
    return Recording(
        trace=msgspec.structs.replace(
            trace,
            events=tuple(trace.events[i] for i in kept),
            digests=tuple(
                one
                for one in trace.digests
                if not isinstance(one, Reading) or one.accessor in wanted
            ),
        ),
        sites=None
        if sites is None
        else msgspec.structs.replace(sites, events=tuple(sites.events[i] for i in kept)),
    )
