"""Storage backends that only one of two sides has."""

from itertools import compress

import msgspec

from traces.schema.model import Recording, Trace
from traces.schema.storage_records import StorageAccess, StorageMatch


def without_unshared_backends(base: Recording, head: Recording) -> tuple[Recording, Recording]:
    """Return both recordings without the storage backends that only one of them has.

    A package registers backends, and releases add and remove some. A backend that one side lacks is
    no difference: nobody could use it there. Every registered backend has a record, opened or
    refused.

    Nothing is left out where a scenario ended in an exception: it may have ended before them.
    """
    if not (base.trace.outcome.ok and head.trace.outcome.ok):
        return base, head
    old, new = _backends(base.trace), _backends(head.trace)
    if old == new:
        return base, head
    lost = old ^ new
    return _without_backends(base, lost), _without_backends(head, lost)


def _backends(trace: Trace) -> frozenset[str]:
    accesses = (event for event in trace.events if isinstance(event, StorageAccess))
    return frozenset(event.backend for event in accesses if event.backend)


def _without_backends(recording: Recording, lost: frozenset[str]) -> Recording:
    trace, sites = recording.trace, recording.sites
    kept = [
        not isinstance(event, StorageAccess) or event.backend not in lost for event in trace.events
    ]
    if sites is not None:
        sites = msgspec.structs.replace(sites, events=tuple(compress(sites.events, kept)))
    trace = msgspec.structs.replace(
        trace,
        events=tuple(compress(trace.events, kept)),
        digests=tuple(
            one
            for one in trace.digests
            if not isinstance(one, StorageMatch) or one.backend not in lost
        ),
    )
    return Recording(trace=trace, sites=sites)
