"""What two releases can be compared by: order between roles, not between handles.

A release may create streams and events in any order and record some that nobody waits for. Streams
are named by what moves on them, events by the stream they were recorded on and which of its marks
they are (``load@6``); marks with no transfer in between are one. A record that nobody waits for is
no order at all, nor is one with a stream that moves nothing, nor is there one between slots of
different pools or between what is moved of them; what a tree frees in a row is freed at once. What
a release logs is no
contract and is left out, and so are the arguments with which the script itself calls the
controller.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, pairwise

import msgspec

from traces.schema.model import (
    Allocation,
    Call,
    Event,
    EventAwaited,
    EventRecorded,
    Location,
    Message,
    Recording,
    Release,
    StorageAccess,
    Transfer,
)
from traces.schema.slot_ranges import parse_slot_ranges, sorted_slot_ranges
from traces.targets.sglang.callbacks import CALLBACK

_DEFAULT = "default"
_HOST = "host"
_READER = "read."
_SLOTS = (Allocation, Release)
_TREE = "tree"


def normalise_recording(recording: Recording, *, messages: Sequence[Message]) -> Recording:
    """Return the recording with streams and events named by their roles.

    Args:
        recording: as it was made.
        messages: what the simulated accelerator found wrong and what was not played; put last.
    """
    sites = recording.sites
    places = sites.events if sites is not None else tuple(None for _ in recording.trace.events)
    events = list(zip(recording.trace.events, places, strict=True))
    events = [pair for pair in events if not _is_incidental(pair[0])]
    roles = _roles(event for event, _ in events)
    events = _without_unawaited(_without_idle(events, roles))
    names = _RoleNames(roles)
    named = _without_repeated_marks([(names.named(event), place) for event, place in events])
    named = _sort_slots_by_owner(named)
    # Pools have no order: what one stream moves between two marks lies in rows of their own, and
    # what is asked of storage is pages of their own.
    named = _sorted_in_runs(named, of=_queue, by=_moved_pool)
    named = _sorted_in_runs(named, of=_storage_query, by=_stored_pool)
    named += [(message, None) for message in messages]
    return msgspec.structs.replace(
        recording,
        trace=msgspec.structs.replace(
            recording.trace,
            calls=tuple(_without_script_arguments(call) for call in recording.trace.calls),
            events=tuple(event for event, _ in named),
        ),
        sites=None
        if sites is None
        else msgspec.structs.replace(sites, events=tuple(place for _, place in named)),
    )


def _is_incidental(event: Event) -> bool:
    """Tell what is no contract: log records, and that the host looked at a tensor of a stream.

    Looking makes the host wait for all of the stream's work, so whether somebody looks changes how
    fast a release is, not in what order its streams work.
    """
    waits_for_stream = isinstance(event, EventAwaited) and event.name.startswith("stream:")
    return isinstance(event, Message) or waits_for_stream


def _without_script_arguments(call: Call) -> Call:
    """Leave out what the script itself passed: releases want it in different forms."""
    is_own = call.role == "operation" and not call.parent and call.callee != CALLBACK
    return msgspec.structs.replace(call, arguments=()) if is_own else call


def _without_repeated_marks(
    events: list[tuple[Event, Location | None]],
) -> list[tuple[Event, Location | None]]:
    """Leave out a second mark of the same point of a stream, right after the first."""
    kept = events[:1]
    for before, found in pairwise(events):
        if not (isinstance(found[0], EventRecorded) and found[0] == before[0]):
            kept.append(found)
    return kept


def _sort_slots_by_owner(
    events: list[tuple[Event, Location | None]],
) -> list[tuple[Event, Location | None]]:
    """Put slots that are taken and given back in a row in order of their pools."""
    ordered: list[tuple[Event, Location | None]] = []
    for _, run in groupby(events, key=_kind):
        ordered += _merge_tree_frees(sorted(run, key=_owner))
    return ordered


def _merge_tree_frees(
    run: list[tuple[Event, Location | None]],
) -> Iterator[tuple[Event, Location | None]]:
    """Make one of what a tree frees of one pool in a row: node by node, or all of it at the end."""
    for is_freed, group in groupby(run, key=_tree_freed_pool):
        pairs = list(group)
        first, place = pairs[0]
        if is_freed and isinstance(first, Release):
            freed = {slot for event, _ in pairs for slot in _slots_freed(event)}
            yield msgspec.structs.replace(first, slots=sorted_slot_ranges(freed)), place
        else:
            yield from pairs


def _tree_freed_pool(pair: tuple[Event, Location | None]) -> str:
    event = pair[0]
    return event.owner if isinstance(event, Release) and event.step == _TREE else ""


def _slots_freed(event: Event) -> Iterator[int]:
    for first, last in parse_slot_ranges(event.slots) if isinstance(event, Release) else ():
        yield from range(first, last + 1)


def _sorted_in_runs(
    events: list[tuple[Event, Location | None]],
    *,
    of: Callable[[tuple[Event, Location | None]], object],
    by: Callable[[tuple[Event, Location | None]], str],
) -> list[tuple[Event, Location | None]]:
    """Sort what lies in a row and is of one thing; what is of another stays where it is."""
    return [pair for _, run in groupby(events, key=of) for pair in sorted(run, key=by)]


def _storage_query(pair: tuple[Event, Location | None]) -> tuple[str, ...]:
    event = pair[0]
    return (event.step, event.operation) if isinstance(event, StorageAccess) else ()


def _stored_pool(pair: tuple[Event, Location | None]) -> str:
    event = pair[0]
    return event.pool if isinstance(event, StorageAccess) else ""


def _queue(pair: tuple[Event, Location | None]) -> tuple[str, ...]:
    event = pair[0]
    return (event.step, event.stream, event.direction) if isinstance(event, Transfer) else ()


def _moved_pool(pair: tuple[Event, Location | None]) -> str:
    event = pair[0]
    return event.pool if isinstance(event, Transfer) else ""


def _kind(pair: tuple[Event, Location | None]) -> tuple[bool, str]:
    return isinstance(pair[0], _SLOTS), pair[0].step


def _owner(pair: tuple[Event, Location | None]) -> str:
    event = pair[0]
    return event.owner if isinstance(event, _SLOTS) else ""


def _without_idle(
    events: Sequence[tuple[Event, Location | None]], roles: dict[str, str]
) -> list[tuple[Event, Location | None]]:
    """Leave out marks of streams that move nothing, and waits for them and on them."""
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
    return stream not in roles and not stream.startswith(_READER)


def _without_unawaited(
    events: Sequence[tuple[Event, Location | None]],
) -> list[tuple[Event, Location | None]]:
    awaited = {event.name for event, _ in events if isinstance(event, EventAwaited)}
    return [
        (event, place)
        for event, place in events
        if not isinstance(event, EventRecorded) or event.name in awaited
    ]


def _roles(events: Iterable[Event]) -> dict[str, str]:
    """Return the role of every stream: what it moved first."""
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
        """Return the event with roles in the place of handles."""
        match event:
            case Transfer():
                self._moved.add(self._role(event.stream))
                return msgspec.structs.replace(event, stream=self._role(event.stream))
            case EventRecorded():
                return msgspec.structs.replace(
                    event, name=self._mark(event), stream=self._role(event.stream)
                )
            case EventAwaited():
                return msgspec.structs.replace(
                    event, name=self._waited(event.name), stream=self._role(event.stream)
                )
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
        if stream.startswith(_READER):
            return stream
        return self._roles.get(stream, "other")
