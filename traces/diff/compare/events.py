"""Comparison of events: transfers, allocations, storage, happens-before edges, messages.

An allocation or release that differs is a ``transfer_*``, because it decides which slots move. A
message that differs is ``outcome_changed``, locks are ``locks_changed``, and owners of slots
``balance_changed``. A page that is stored or fetched is a transfer; one under another key is
``storage_key_changed``. The verdict has no further kinds for these.

A package's pools hand their buffers out through accessors, and releases add and remove some. Each
is read on a stream of its own. An accessor that one release lacks is no difference.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import compress

import msgspec

from traces.diff.align import Alignment, AlignmentKeys, align
from traces.diff.compare.pools import pool_record_key, unshared_pool_records
from traces.diff.differences import Difference, DiffLayer, with_step
from traces.diff.pairing import CallPairing
from traces.diff.slide import AlignedSide, slide_hunks
from traces.diff.values import NO_OWNERS, OwnerMap, Value
from traces.schema.collectives import Collective
from traces.schema.copies import Copy
from traces.schema.device_waits import DeviceAwaited
from traces.schema.life import EvictionCount, NodeLocks, PoolBalance
from traces.schema.model import (
    Allocation,
    Event,
    EventAwaited,
    EventRecorded,
    Message,
    Reading,
    Recording,
    Release,
    Trace,
    Transfer,
)
from traces.schema.pools import HostCopy, PoolAccessor
from traces.schema.races import Race
from traces.schema.storage_records import StorageAccess
from traces.schema.verdict import Kind


class EventFamily(IntEnum):
    """The kind of an event that differs; the first of a hunk is its primary difference."""

    DATA = 0
    ORDER = 1
    MESSAGE = 2


_KINDS = {
    EventFamily.DATA: (Kind.TRANSFER_REMOVED, Kind.TRANSFER_ADDED, Kind.TRANSFER_CHANGED),
    EventFamily.ORDER: (Kind.ORDER_EDGE_REMOVED, Kind.ORDER_EDGE_ADDED, Kind.ORDER_EDGE_REMOVED),
    EventFamily.MESSAGE: (Kind.OUTCOME_CHANGED, Kind.OUTCOME_CHANGED, Kind.OUTCOME_CHANGED),
}
_STATE_KINDS: dict[type, Kind] = {
    NodeLocks: Kind.LOCKS_CHANGED,
    PoolBalance: Kind.BALANCE_CHANGED,
    EvictionCount: Kind.BALANCE_CHANGED,
    Collective: Kind.COLLECTIVE_CHANGED,
}


@dataclass(slots=True, kw_only=True, eq=False)
class EventDifference(Difference):
    """A difference of one event.

    Attributes:
        event: of the base if it has it.
        base_index: place in the events of the base; None for an event that is new.
        head_index: place in the events of the head, or where it would be.
        hunk: number of the hunk of events it belongs to.
    """

    event: Event
    base_index: int | None
    head_index: int
    hunk: int

    @property
    def family(self) -> EventFamily:
        """Family of the event."""
        return event_family(self.event)

    @property
    def edge(self) -> str:
        """Name of the device event that is recorded or awaited; empty for other events."""
        return self.event.name if isinstance(self.event, EventRecorded | EventAwaited) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventComparison:
    """The events of two sides, aligned.

    Attributes:
        marks: of the base and of the head, for each event the stream on which the device event
            that it records or awaits was recorded; empty for other events.
    """

    pairing: CallPairing
    old: tuple[Event, ...]
    new: tuple[Event, ...]
    alignment: Alignment
    marks: tuple[tuple[str, ...], tuple[str, ...]]

    @classmethod
    def of(cls, pairing: CallPairing) -> "EventComparison":
        """Align the events; linear in their number."""
        old = tuple(_translated(pairing.base.trace.events, pairing.owners))
        new = tuple(_translated(pairing.head.trace.events, NO_OWNERS))
        alignment = slide_hunks(
            align(_keys(old), _keys(new), likeness=lambda i, j: _likeness(old[i], new[j])),
            AlignedSide(records=old, line=pairing.base.event_line),
            AlignedSide(records=new, line=pairing.head.event_line),
        )
        marks = _marked_streams(old), _marked_streams(new)
        return cls(pairing=pairing, old=old, new=new, alignment=alignment, marks=marks)

    def differences(self) -> list[EventDifference]:
        """Return the differences in the order of the events."""
        return sorted((*self._lost_and_new(), *self._changed()), key=lambda one: one.rank)

    def _lost_and_new(self) -> Iterator[EventDifference]:
        base_failed, head_failed = self.pairing.base.failed, self.pairing.head.failed
        base_steps, head_steps = ({one.step for one in side} for side in (self.old, self.new))
        hunks = self.alignment.hunks
        last_lost = max((number for number, hunk in enumerate(hunks) if hunk.base), default=-1)
        # Threads go on behind the error: what they do looks like events that the head has, too.
        failed_step = self.pairing.base.trace.outcome.failed_step
        for number, hunk in enumerate(hunks):
            at_end = hunk.base.stop == len(self.old) and hunk.head.stop == len(self.new)
            cut_short = at_end and (head_failed or base_failed)
            for i in hunk.base:
                cut = cut_short or (head_failed and self.old[i].step not in head_steps)
                yield self._difference(i, None, place=hunk.head.start, hunk=number, cut=cut)
            for j in hunk.head:
                step = self.new[j].step
                goes_on = number > last_lost and step == failed_step
                cut = cut_short or (base_failed and (goes_on or step not in base_steps))
                yield self._difference(None, j, place=j, hunk=number, cut=cut)

    def _changed(self) -> Iterator[EventDifference]:
        changed = [
            (i, j)
            for i, j in self.alignment.pairs
            if without_race_text(self.old[i]) != without_race_text(self.new[j])
        ]
        for number, (i, j) in enumerate(changed, start=len(self.alignment.hunks) + 1):
            yield self._difference(i, j, place=j, hunk=number, cut=False)

    def _difference(
        self, i: int | None, j: int | None, *, place: int, hunk: int, cut: bool
    ) -> EventDifference:
        old, new = None if i is None else self.old[i], None if j is None else self.new[j]
        event, known = new or old, old or new
        assert event is not None
        assert known is not None
        removed, added, changed = _KINDS[event_family(event)]
        kind = removed if new is None else added if old is None else changed
        kind = _STATE_KINDS.get(type(event), kind)
        if isinstance(old, StorageAccess) and isinstance(new, StorageAccess):
            kind = Kind.STORAGE_KEY_CHANGED if old.key != new.key else kind
        marked = self.marks[1][j] if j is not None else self.marks[0][i] if i is not None else ""
        where, pattern, subject = _describe_event(event, marked)
        return EventDifference(
            kind=kind,
            where=where,
            pattern=pattern,
            subject=subject,
            before=_changed_fields(old, new),
            after=_changed_fields(new, old),
            layer=DiffLayer.EVENTS,
            position=2 * place + (new is not None),
            pool=_pool(event),
            event=known,
            base_index=i,
            head_index=place,
            hunk=hunk,
            truncated=cut,
        )


def _describe_event(event: Event, marked: str) -> tuple[str, str, str]:
    """Return the place of an event, the same for the whole series of its kind, and without step.

    Layers of one transfer are a series, and so are the device events that were recorded on the
    stream ``marked``.
    """
    series = ""
    if isinstance(event, Transfer):
        text = f"{event.direction} {event.pool}.{event.plane} layer"
        exact, series = f"{text} {event.layer}", f"{text} *"
    elif isinstance(event, Copy):
        exact = f"{event.operation} {event.source or 'other memory'} to "
        exact += event.target or "other memory"
    elif isinstance(event, EventRecorded):
        exact, series = f"record {event.name} on {event.stream}", f"record * on {event.stream}"
    elif isinstance(event, EventAwaited):
        exact = f"wait {event.name} on {event.stream}"
        series = f"wait * of {marked} on {event.stream}" if marked else exact
    elif isinstance(event, DeviceAwaited):
        exact = f"wait of the host for the device beside {event.stream}"
    elif isinstance(event, Message):
        exact = f"{event.level} message"
    elif isinstance(event, Race):
        exact = "race"
    elif isinstance(event, NodeLocks | PoolBalance | EvictionCount | Collective):
        exact, series = _describe_state(event)
    elif isinstance(event, StorageAccess):
        series = " ".join(filter(None, ("storage", event.operation, event.pool)))
        exact = series if event.operation == "open" else f"{series} page {event.key}"
    else:
        verb = "alloc" if isinstance(event, Allocation) else "free"
        exact = f"{verb} {event.owner}"
    series = series or exact
    return with_step(exact, event.step), with_step(series, event.step), exact


def _describe_state(
    event: NodeLocks | PoolBalance | EvictionCount | Collective,
) -> tuple[str, str]:
    match event:
        case NodeLocks():
            text = f"locks of {event.component}"
            moment = f"when {event.moment}"
            return f"{text} of node {event.node} {moment}", f"{text} {moment}"
        case PoolBalance():
            return f"slots of {event.owner} when {event.moment}", ""
        case EvictionCount():
            return f"{event.name} of an eviction when {event.moment}", ""
        case Collective():
            return " ".join(filter(None, (event.operation, event.reduction, event.dtype))), ""


def event_family(event: Event) -> EventFamily:
    """Return the family of an event."""
    if isinstance(event, EventRecorded | EventAwaited | DeviceAwaited):
        return EventFamily.ORDER
    return EventFamily.MESSAGE if isinstance(event, Message | Race) else EventFamily.DATA


def without_unshared_reads(base: Recording, head: Recording) -> tuple[Recording, Recording]:
    """Return both recordings without the readings, and the answers of pools, that one lacks.

    Nothing is left out where neither has any, nor of a scenario that ended in an exception: it may
    have ended before them.
    """
    if not (base.trace.outcome.ok and head.trace.outcome.ok):
        return base, head
    old, new = accessors_by_stream(base.trace), accessors_by_stream(head.trace)
    unshared = unshared_pool_records(base.trace.digests, head.trace.digests)
    if not (old or new or unshared):
        return base, head
    shared = {*old.values()} & {*new.values()}
    return (
        _without(_keep_shared(base, shared, old), unshared),
        _without(_keep_shared(head, shared, new), unshared),
    )


def _without(recording: Recording, keys: frozenset[tuple[str, str]]) -> Recording:
    """Return a recording without the records of pools that have one of some keys."""
    trace = recording.trace
    kept = tuple(one for one in trace.digests if pool_record_key(one) not in keys)
    return Recording(trace=msgspec.structs.replace(trace, digests=kept), sites=recording.sites)


def accessors_by_stream(trace: Trace) -> dict[str, str]:
    """Return the accessor that is called on each stream of its own.

    One whose rows were read has the name that its reading has, another one that of its pool too.
    """
    read = (one for one in trace.digests if isinstance(one, Reading))
    return methods_by_stream(trace) | {one.stream: one.accessor for one in read}


def methods_by_stream(trace: Trace) -> dict[str, str]:
    """Return the methods on streams of their own with their pools: ``kv_cache.get_raw``."""
    called = (one for one in trace.digests if isinstance(one, PoolAccessor))
    copied = (one for one in trace.digests if isinstance(one, HostCopy))
    return {one.stream: f"{one.holder}.{one.method}" for one in called} | {
        stream: f"{one.holder}.{method}"
        for one in copied
        for stream, method in zip(one.streams, (one.method, one.loads), strict=True)
    }


def accessors_of(event: Event, readers: Mapping[str, str]) -> tuple[str, ...]:
    """Return the accessors on whose streams an event is, or that take part in a race."""
    if isinstance(event, EventAwaited | EventRecorded | DeviceAwaited):
        return (readers[event.stream],) if event.stream in readers else ()
    if isinstance(event, Race):
        return tuple(side.accessor for side in (event.first, event.second) if side.accessor)
    return ()


def _keep_shared(recording: Recording, shared: set[str], readers: Mapping[str, str]) -> Recording:
    trace, sites = recording.trace, recording.sites
    kept = [shared.issuperset(accessors_of(event, readers)) for event in trace.events]
    digests = (
        one for one in trace.digests if not isinstance(one, Reading) or one.accessor in shared
    )
    events = tuple(compress(trace.events, kept))
    if sites is not None:
        sites = msgspec.structs.replace(sites, events=tuple(compress(sites.events, kept)))
    trace = msgspec.structs.replace(trace, events=events, digests=tuple(digests))
    return Recording(trace=trace, sites=sites)


def _translated(events: tuple[Event, ...], owners: OwnerMap) -> Iterator[Event]:
    for event in events:
        if owners.owners and isinstance(event, Copy):
            event = msgspec.structs.replace(  # noqa: PLW2901
                event, source=owners.buffer(event.source), target=owners.buffer(event.target)
            )
        elif owners.owners and isinstance(event, Allocation | Release):
            event = msgspec.structs.replace(event, owner=owners.owner(event.owner))  # noqa: PLW2901
        elif isinstance(event, EventRecorded):
            # It follows from the transfers before it.
            event = msgspec.structs.replace(event, layer=None)  # noqa: PLW2901
        yield event


def _marked_streams(events: tuple[Event, ...]) -> tuple[str, ...]:
    """Return for each record or wait the stream that its device event was recorded on last."""
    recorded: dict[str, str] = {}
    streams = []
    for event in events:
        if isinstance(event, EventRecorded):
            recorded[event.name] = event.stream
        name = event.name if isinstance(event, EventRecorded | EventAwaited) else ""
        streams.append(recorded.get(name, ""))
    return tuple(streams)


def without_race_text(event: Event) -> Event:
    """Return an event without what a race says to people: its other fields make it what it is.

    The text names the functions that copy, and releases choose other ones for the same copy.
    """
    return msgspec.structs.replace(event, text="") if isinstance(event, Race) else event


def _keys(events: tuple[Event, ...]) -> AlignmentKeys:
    facts = [without_race_text(event) for event in events]
    return AlignmentKeys(exact=facts, loose=[_loose(event) for event in facts])


def _loose(event: Event) -> Hashable:
    if isinstance(event, Transfer):
        return (event.step, event.direction, event.pool, event.plane, event.layer)
    if isinstance(event, Copy):
        return ("Copy", event.step, event.operation, event.source, event.target)
    if isinstance(event, Allocation | Release):
        return (type(event).__name__, event.step, event.owner)
    if isinstance(event, StorageAccess):
        return (type(event).__name__, event.step, event.operation, event.pool)
    if isinstance(event, Collective):
        # Neither group nor shape: the same reduction in another group is one difference.
        return (type(event).__name__, event.step, event.operation, event.reduction, event.dtype)
    if isinstance(event, NodeLocks):
        return (type(event).__name__, event.step, event.moment, event.node, event.component)
    if isinstance(event, EvictionCount):
        return (type(event).__name__, event.step, event.moment, event.name)
    if isinstance(event, PoolBalance):
        return (type(event).__name__, event.step, event.moment, event.owner)
    return event


def _likeness(old: Event, new: Event) -> float:
    """Return more for transfers: an edge that moved past a transfer is a difference."""
    return (2.0 if isinstance(old, Transfer | Copy) else 1.0) + 0.5 * (old == new)


def _changed_fields(event: Event | None, other: Event | None) -> Value:
    """Return the fields that differ, or all when there is no other event."""
    if event is None:
        return None
    if isinstance(event, Race):
        return {"text": event.text}
    mine = msgspec.structs.asdict(event)
    theirs = {} if other is None else msgspec.structs.asdict(other)
    return {name: value for name, value in mine.items() if theirs.get(name, mine) != value}


def _pool(event: Event) -> str:
    has_pool = Transfer | StorageAccess | Copy | Allocation | Release | PoolBalance
    return event.pool if isinstance(event, has_pool) else ""
