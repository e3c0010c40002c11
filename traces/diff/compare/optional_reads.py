"""Readings that only one side can make: what cannot be asked of both tells nothing about either.

A package's pools hand their buffers out through accessors, and releases add and remove some. Each
is read on a stream of its own, ``read.<accessor>``; its result is the round trip
``<pool>.read.<accessor>``.
"""

import re
from collections.abc import Iterable

import msgspec

from traces.diff.differences import Difference
from traces.diff.values import Value
from traces.schema.model import (
    DigestRecord,
    Event,
    EventAwaited,
    EventRecorded,
    Message,
    Recording,
    RoundTrip,
)

_READING = re.compile(r"(?:^|\.)read\.(\w+)$")
_ON_READER = re.compile(r" on read\.(\w+)")
_READER = re.compile(r" by (\w+) on ")


def without_unshared_reads(base: Recording, head: Recording) -> tuple[Recording, Recording]:
    """Return both recordings without the readings that only one of them made.

    Nothing is left out where neither made any, nor of a scenario that ended in an exception: that
    one may not have come to them.
    """
    if not (base.trace.outcome.ok and head.trace.outcome.ok):
        return base, head
    asked, asked_now = _reads(base), _reads(head)
    if not (asked or asked_now):
        return base, head
    shared = asked & asked_now
    return _keep_shared(base, shared), _keep_shared(head, shared)


def accessor_in(difference: Difference) -> str:
    """Return the accessor that a wait, or a race that was found, is about; empty for none."""
    texts = [value["text"] for value in (difference.before, difference.after) if _is_message(value)]
    named = _ON_READER.search(difference.where) or _READER.search(" ".join(texts))
    return named[1] if named else ""


def _is_message(value: Value) -> bool:
    return isinstance(value, dict) and "text" in value


def _reads(recording: Recording) -> set[str]:
    return {name for digest in recording.trace.digests for name in _of_digest(digest)}


def _keep_shared(recording: Recording, shared: set[str]) -> Recording:
    trace, sites = recording.trace, recording.sites
    kept = [i for i, event in enumerate(trace.events) if shared.issuperset(_of_event(event))]
    digests = tuple(one for one in trace.digests if shared.issuperset(_of_digest(one)))
    events = tuple(trace.events[i] for i in kept)
    return Recording(
        trace=msgspec.structs.replace(trace, events=events, digests=digests),
        sites=None
        if sites is None
        else msgspec.structs.replace(sites, events=tuple(sites.events[i] for i in kept)),
    )


def _of_digest(digest: DigestRecord) -> Iterable[str]:
    return _READING.findall(digest.pool) if isinstance(digest, RoundTrip) else ()


def _of_event(event: Event) -> Iterable[str]:
    if isinstance(event, EventAwaited | EventRecorded):
        return _READING.findall(event.stream)
    return _READER.findall(event.text) if isinstance(event, Message) else ()
