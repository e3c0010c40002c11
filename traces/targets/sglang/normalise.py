"""Normal form of a recording: streams and events by role, so that two releases can be compared.

A release may create streams and events in any order. A stream is named after its first transfer's
direction, an event after its stream and its number among the stream's marks (``load@6``).

Dropped: log records; waits of the host that order no two streams; event records without a wait;
records and waits of streams without transfers; repeated records with no transfer in between; the
arguments of the script's own calls of the controller.

Events of other threads than the script's come behind its own, step by step: how threads are
scheduled is no order.

Unordered, and therefore sorted by pool: consecutive allocations and frees of slots; the copies of
one stream between two marks; consecutive storage operations of one kind.

Merged: what a tree frees of one pool in consecutive calls.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import groupby, pairwise
from typing import TypeAlias

import msgspec

from traces.schema.device_waits import DeviceAwaited
from traces.schema.model import (
    Allocation,
    Call,
    DigestRecord,
    Event,
    EventAwaited,
    EventRecorded,
    Location,
    Message,
    Reading,
    Recording,
    Release,
    Transfer,
)
from traces.schema.pools import PoolAccessor
from traces.schema.races import Race
from traces.schema.slot_ranges import parse_slot_ranges, sorted_slot_ranges
from traces.schema.storage_records import StorageAccess
from traces.targets.sglang.accessor_reads import READER_PREFIX
from traces.targets.sglang.callbacks import CALLBACK
from traces.targets.sglang.fences import FORWARD
from traces.targets.sglang.host_copies import COPY_PREFIX
from traces.targets.sglang.slot_operations import STEP as SLOTS

_DEFAULT = "default"
_HOST = "host"
_TREES = ("tree", "tree storage")
_Located = tuple[Event, Location | None]
LocatedMessage: TypeAlias = tuple[Message | Race, Location | None]
"""A message or race with its line."""


def normalise_recording(recording: Recording, *, messages: Sequence[LocatedMessage]) -> Recording:
    """Return the normal form of a recording, with ``messages`` of device and script appended."""
    sites = recording.sites
    places = sites.events if sites is not None else tuple(None for _ in recording.trace.events)
    events = list(zip(recording.trace.events, places, strict=True))
    events = [pair for pair in _by_step(events) if not _is_incidental(pair[0])]
    roles = _roles(event for event, _ in events)
    events = _without_unawaited(_without_idle(events, roles))
    names = _RoleNames(roles)
    named = _without_repeated_marks([(names.named(event), place) for event, place in events])
    named = list(_merge_tree_frees(_sort_runs(named, (Allocation, Release), ("step",), "owner")))
    named = _sort_runs(named, Transfer, ("step", "stream", "direction"), "pool")
    named = _sort_runs(named, StorageAccess, ("step", "operation"), "pool")
    named += messages
    awaiting = {event.stream for event, _ in named if isinstance(event, EventAwaited)}
    return msgspec.structs.replace(
        recording,
        trace=msgspec.structs.replace(
            recording.trace,
            calls=tuple(_without_script_arguments(call) for call in recording.trace.calls),
            events=tuple(event for event, _ in named),
            digests=tuple(_with_waits(digest, awaiting) for digest in recording.trace.digests),
        ),
        sites=None
        if sites is None
        else msgspec.structs.replace(sites, events=tuple(place for _, place in named)),
    )


def _with_waits(digest: DigestRecord, awaiting: Set[str]) -> DigestRecord:
    """Return the record of an accessor with whether its stream waited; others as they are."""
    if not isinstance(digest, Reading | PoolAccessor):
        return digest
    return msgspec.structs.replace(digest, waited=digest.stream in awaiting)


def _is_incidental(event: Event) -> bool:
    """Return whether an event is a log record or a wait of the host that orders no two streams.

    Reading a device tensor makes the host wait for its stream's work. That changes how fast a
    release is, not the order in which its streams work. Operations on slots are called while no
    stream has work.
    """
    waits_for_stream = isinstance(event, EventAwaited) and event.name.startswith("stream:")
    is_alone = isinstance(event, DeviceAwaited) and event.step == SLOTS
    return isinstance(event, Message) or waits_for_stream or is_alone


def _without_script_arguments(call: Call) -> Call:
    """Drop the arguments of the script's own calls: releases take them in different forms."""
    is_own = call.role == "operation" and not call.parent and call.callee != CALLBACK
    return msgspec.structs.replace(call, arguments=()) if is_own else call


def _without_repeated_marks(events: list[_Located]) -> list[_Located]:
    """Drop a second mark of the same point of a stream, right after the first."""
    kept = events[:1]
    for before, found in pairwise(events):
        if not (isinstance(found[0], EventRecorded) and found[0] == before[0]):
            kept.append(found)
    return kept


def _by_step(events: list[_Located]) -> list[_Located]:
    """Sort events by their steps, in the order in which these were first seen.

    They arrive thread by thread, and the thread of the script, the first one, goes through every
    step. What other threads did comes behind what the script did in the same step.
    """
    first: dict[str, int] = {}
    for event, _ in events:
        first.setdefault(event.step, len(first))
    return sorted(events, key=lambda pair: first[pair[0].step])


def _sort_runs(
    events: list[_Located],
    kinds: type[Event] | tuple[type[Event], ...],
    alike: tuple[str, ...],
    by: str,
) -> list[_Located]:
    """Sort consecutive events of some kinds with equal fields ``alike`` by the field ``by``."""

    def run(pair: _Located) -> tuple[object, ...] | None:
        event = pair[0]
        return tuple(getattr(event, name) for name in alike) if isinstance(event, kinds) else None

    def order(pair: _Located) -> str:
        return str(getattr(pair[0], by)) if isinstance(pair[0], kinds) else ""

    return [pair for _, found in groupby(events, key=run) for pair in sorted(found, key=order)]


def _merge_tree_frees(events: list[_Located]) -> Iterator[_Located]:
    """Merge consecutive frees of a tree of one pool: trees free node by node, or all at the end."""
    for is_freed, group in groupby(events, key=_tree_freed_pool):
        pairs = list(group)
        first, place = pairs[0]
        if is_freed and isinstance(first, Release):
            freed = {slot for event, _ in pairs for slot in _slots_freed(event)}
            yield msgspec.structs.replace(first, slots=sorted_slot_ranges(freed)), place
        else:
            yield from pairs


def _tree_freed_pool(pair: _Located) -> str:
    event = pair[0]
    return event.owner if isinstance(event, Release) and event.step in _TREES else ""


def _slots_freed(event: Event) -> Iterator[int]:
    for first, last in parse_slot_ranges(event.slots) if isinstance(event, Release) else ():
        yield from range(first, last + 1)


def _without_idle(events: Sequence[_Located], roles: dict[str, str]) -> list[_Located]:
    """Drop marks and waits of streams without transfers, and waits for their marks."""
    marks = {
        event.name
        for event, _ in events
        if isinstance(event, EventRecorded) and _is_idle(event.stream, roles)
    }
    return [
        (event, place)
        for event, place in events
        if not isinstance(event, EventRecorded | EventAwaited)
        or not (event.name in marks or _is_idle(event.stream, roles))
    ]


def _is_idle(stream: str, roles: dict[str, str]) -> bool:
    return stream not in roles and not _is_own_stream(stream)


def _is_own_stream(stream: str) -> bool:
    """Return whether a stream is the script's, which keeps its name."""
    return stream == FORWARD or stream.startswith((READER_PREFIX, COPY_PREFIX))


def _without_unawaited(events: Sequence[_Located]) -> list[_Located]:
    awaited = {event.name for event, _ in events if isinstance(event, EventAwaited)}
    return [
        (event, place)
        for event, place in events
        if not isinstance(event, EventRecorded) or event.name in awaited
    ]


def _roles(events: Iterable[Event]) -> dict[str, str]:
    """Return the role of every stream: the direction of its first transfer."""
    roles = {_DEFAULT: _DEFAULT, _HOST: _HOST}
    for event in events:
        if isinstance(event, Transfer):
            roles.setdefault(event.stream, event.direction)
    return roles


class _RoleNames:
    def __init__(self, roles: dict[str, str]) -> None:
        self._roles = roles
        self._counts: Counter[str] = Counter()
        self._moved: set[str] = set()
        self._current: dict[str, str] = {}

    def named(self, event: Event) -> Event:
        """Return the event with roles instead of handles."""
        match event:
            case Transfer():
                self._moved.add(self._role(event.stream))
                return msgspec.structs.replace(event, stream=self._role(event.stream))
            case EventRecorded():
                # Which of several marks behind a layer is awaited is up to the release.
                return msgspec.structs.replace(
                    event, name=self._mark(event), stream=self._role(event.stream), layer=None
                )
            case EventAwaited():
                return msgspec.structs.replace(
                    event, name=self._waited(event.name), stream=self._role(event.stream)
                )
            case DeviceAwaited():
                return msgspec.structs.replace(event, stream=self._role(event.stream))
            case _:
                return event

    def _mark(self, event: EventRecorded) -> str:
        role = self._role(event.stream)
        self._counts[role] += role in self._moved
        self._moved.discard(role)
        self._current[event.name] = f"{role}@{self._counts[role]}"
        return self._current[event.name]

    def _waited(self, name: str) -> str:
        return self._current.get(name, "nothing")

    def _role(self, stream: str) -> str:
        if _is_own_stream(stream):
            return stream
        return self._roles.get(stream, "other")
