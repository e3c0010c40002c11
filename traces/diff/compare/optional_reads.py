"""Removal of readings that only one side has.

A package's pools hand their buffers out through accessors, and releases add and remove some. Each
is read on a stream of its own. An accessor that one release lacks is no difference.
"""

from collections.abc import Mapping

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
    """Return both recordings without the readings that only one of them has.

    Nothing is left out where neither has any, nor of a scenario that ended in an exception: it may
    have ended before them.
    """
    if not (base.trace.outcome.ok and head.trace.outcome.ok):
        return base, head
    old, new = accessors_by_stream(base.trace), accessors_by_stream(head.trace)
    if not (old or new):
        return base, head
    shared = {*old.values()} & {*new.values()}
    return _keep_shared(base, shared, old), _keep_shared(head, shared, new)


def accessors_by_stream(trace: Trace) -> dict[str, str]:
    """Return the accessor that reads on each stream of its own."""
    return {one.stream: one.accessor for one in trace.digests if isinstance(one, Reading)}


def accessors_of(event: Event, readers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the accessors on whose streams an event is, or that take part in a race."""
    if isinstance(event, EventAwaited | EventRecorded):
        return (readers[event.stream],) if event.stream in readers else ()
    if isinstance(event, Race):
        return tuple(side.accessor for side in (event.first, event.second) if side.accessor)
    return ()


def _keep_shared(recording: Recording, shared: set[str], readers: Mapping[str, str]) -> Recording:
    trace, sites = recording.trace, recording.sites
    kept = [
        i for i, event in enumerate(trace.events) if shared.issuperset(accessors_of(event, readers))
    ]
    return Recording(
        trace=msgspec.structs.replace(
            trace,
            events=tuple(trace.events[i] for i in kept),
            digests=tuple(
                one
                for one in trace.digests
                if not isinstance(one, Reading) or one.accessor in shared
            ),
        ),
        sites=None
        if sites is None
        else msgspec.structs.replace(sites, events=tuple(sites.events[i] for i in kept)),
    )
