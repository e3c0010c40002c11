"""Compares the events: transfers, allocations, storage, happens-before edges, messages.

An allocation or release that differs is a kind of ``transfer_*``: it decides which slots move. A
message that differs is ``outcome_changed``. A page that is stored or fetched is a transfer; one
under another key is ``storage_key_changed``. The kinds of the contract have nothing nearer.
"""

import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from traces.diff.align import Alignment, AlignmentKeys, align
from traces.diff.compare.tensors import pool_of, renamed_owner
from traces.diff.differences import Difference, DiffLayer, EventFamily, with_step
from traces.diff.index import RecordingIndex
from traces.diff.values import Value
from traces.schema.model import (
    Allocation,
    Event,
    EventAwaited,
    EventRecorded,
    Message,
    Release,
    StorageAccess,
    Transfer,
)
from traces.schema.verdict import Kind, Level

_NUMBER = re.compile(r"\d+")
_KINDS = {
    EventFamily.DATA: (Kind.TRANSFER_REMOVED, Kind.TRANSFER_ADDED, Kind.TRANSFER_CHANGED),
    EventFamily.ORDER: (Kind.ORDER_EDGE_REMOVED, Kind.ORDER_EDGE_ADDED, Kind.ORDER_EDGE_REMOVED),
    EventFamily.MESSAGE: (Kind.OUTCOME_CHANGED, Kind.OUTCOME_CHANGED, Kind.OUTCOME_CHANGED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EventComparison:
    """The events of two sides, aligned."""

    base: RecordingIndex
    head: RecordingIndex
    old: tuple[Event, ...]
    new: tuple[Event, ...]
    alignment: Alignment

    @classmethod
    def of(
        cls, base: RecordingIndex, head: RecordingIndex, renamed: Mapping[str, str]
    ) -> "EventComparison":
        """Align the events; linear in their number."""
        old, new = tuple(_translated(base.trace.events, renamed)), head.trace.events
        alignment = align(_keys(old), _keys(new), likeness=lambda i, j: _likeness(old[i], new[j]))
        return cls(base=base, head=head, old=old, new=new, alignment=alignment)

    def differences(self) -> list[Difference]:
        """Return the differences in the order of the events."""
        return sorted((*self._lost_and_new(), *self._changed()), key=lambda one: one.rank)

    def event(self, found: Difference) -> Event:
        """Return the event of a difference, of the base if it has it."""
        if found.base_index is not None:
            return self.old[found.base_index]
        assert found.head_index is not None
        return self.new[found.head_index]

    def _lost_and_new(self) -> Iterator[Difference]:
        base_steps, head_steps = _steps(self.old), _steps(self.new)
        for number, hunk in enumerate(self.alignment.hunks):
            at_end = hunk.base.stop == len(self.old) and hunk.head.stop == len(self.new)
            cut_short = at_end and (self.head.failed or self.base.failed)
            for i in hunk.base:
                cut = cut_short or (self.head.failed and self.old[i].step not in head_steps)
                yield self._difference(i, None, place=hunk.head.start, hunk=number, cut=cut)
            for j in hunk.head:
                cut = cut_short or (self.base.failed and self.new[j].step not in base_steps)
                yield self._difference(None, j, place=j, hunk=number, cut=cut)

    def _changed(self) -> Iterator[Difference]:
        number = len(self.alignment.hunks)
        for i, j in self.alignment.pairs:
            if self.old[i] != self.new[j]:
                number += 1
                yield self._difference(i, j, place=j, hunk=number, cut=False)

    def _difference(
        self, i: int | None, j: int | None, *, place: int, hunk: int, cut: bool
    ) -> Difference:
        old, new = None if i is None else self.old[i], None if j is None else self.new[j]
        event = old if new is None else new
        assert event is not None
        removed, added, changed = _KINDS[event_family(event)]
        kind = removed if new is None else added if old is None else changed
        if isinstance(old, StorageAccess) and isinstance(new, StorageAccess):
            kind = Kind.STORAGE_KEY_CHANGED if old.key != new.key else kind
        where, pattern = describe_event(event)
        return Difference(
            kind=kind,
            level=Level.BEHAVIOUR,
            where=where,
            pattern=pattern,
            before=_shown(old, new),
            after=_shown(new, old),
            layer=DiffLayer.EVENTS,
            position=2 * place + (new is not None),
            pool=_pool(event),
            base_call="",
            head_call="",
            base_index=i,
            head_index=place,
            family=event_family(event),
            edge=event.name if isinstance(event, EventRecorded | EventAwaited) else "",
            hunk=hunk,
            truncated=cut,
        )


def describe_event(event: Event) -> tuple[str, str]:
    """Return the exact place of an event and the same with its running numbers starred."""
    if isinstance(event, Transfer):
        text = f"{event.direction} {event.pool}.{event.plane} layer"
        exact, starred = f"{text} {event.layer}", f"{text} *"
    elif isinstance(event, EventRecorded | EventAwaited):
        text = "record {} on {}" if isinstance(event, EventRecorded) else "wait {} on {}"
        exact = text.format(event.name, event.stream)
        starred = text.format(_NUMBER.sub("*", event.name), event.stream)
    elif isinstance(event, Message):
        exact = starred = f"{event.level} message"
    elif isinstance(event, StorageAccess):
        starred = " ".join(filter(None, ("storage", event.operation, event.pool)))
        exact = starred if event.operation == "open" else f"{starred} page {event.key}"
    else:
        verb = "alloc" if isinstance(event, Allocation) else "free"
        exact = starred = f"{verb} {event.owner}"
    return with_step(exact, event.step), with_step(starred, event.step)


def event_family(event: Event) -> EventFamily:
    """Return the family of an event."""
    if isinstance(event, EventRecorded | EventAwaited):
        return EventFamily.ORDER
    return EventFamily.MESSAGE if isinstance(event, Message) else EventFamily.DATA


def _steps(events: tuple[Event, ...]) -> set[str]:
    return {event.step for event in events}


def _translated(events: tuple[Event, ...], renamed: Mapping[str, str]) -> Iterator[Event]:
    for event in events:
        if renamed and isinstance(event, Allocation | Release):
            event = msgspec.structs.replace(event, owner=renamed_owner(event.owner, renamed))  # noqa: PLW2901
        yield event


def _keys(events: tuple[Event, ...]) -> AlignmentKeys:
    return AlignmentKeys(exact=events, loose=[_loose(event) for event in events])


def _loose(event: Event) -> Hashable:
    if isinstance(event, Transfer):
        return (event.step, event.direction, event.pool, event.plane, event.layer)
    if isinstance(event, Allocation | Release):
        return (type(event).__name__, event.step, event.owner)
    if isinstance(event, StorageAccess):
        return (type(event).__name__, event.step, event.operation, event.pool)
    return event


def _likeness(old: Event, new: Event) -> float:
    """Keep transfers in place before anything else: an edge that moved past one is news."""
    return (2.0 if isinstance(old, Transfer) else 1.0) + 0.5 * (old == new)


def _shown(event: Event | None, other: Event | None) -> Value:
    """Return the fields that differ, or all when there is no other event."""
    if event is None:
        return None
    mine = msgspec.structs.asdict(event)
    theirs = {} if other is None else msgspec.structs.asdict(other)
    return {name: value for name, value in mine.items() if theirs.get(name, mine) != value}


def _pool(event: Event) -> str:
    if isinstance(event, Transfer | StorageAccess):
        return event.pool
    return pool_of(event.owner) if isinstance(event, Allocation | Release) else ""
