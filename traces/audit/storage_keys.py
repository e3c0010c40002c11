"""Key collisions: pages with different bytes that storage keeps under one key.

Sees: two configurations whose pages for the same tokens differ, by dtype, layout, model, rank or
stage, and two requests of one scenario in different namespaces. Of the backends that a package
registers the keys are complete, so pages of all scenarios share a storage. The keys that the
scenario's own backend is given are compared within the scenario only.

Does not see: two configurations of which the scenarios have only one. A misuse of a backend's
client is reported as well: memory that is not a host pool's, keys that are not distinct.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import msgspec

from traces.audit.assembly_calls import Recordings
from traces.audit.finding import own_location
from traces.audit.origins import stack_origin
from traces.schema.model import Location, Recording
from traces.schema.storage_records import StorageAccess
from traces.schema.verdict import Cause, Kind

_REQUEST = "request"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPage:
    """A page that a scenario stored."""

    scenario: str
    recording: Recording
    access: StorageAccess
    location: Location | None


def key_collisions(recordings: Recordings) -> tuple[Cause, ...]:
    """Return one finding for each set of fields that tells two colliding configurations apart.

    Sets that contain a smaller one are left out: the smaller one explains them.
    """
    found: dict[tuple[str, tuple[str, ...]], tuple[StoredPage, StoredPage]] = {}
    for pages in _pages_by_key(recordings).values():
        for one, other in combinations(pages, 2):
            if one.access.sha256 != other.access.sha256:
                place = (_subject(one.access), _told_apart(one, other))
                found.setdefault(place, (one, other))
    return tuple(
        _collision(fields, *found[subject, fields])
        for subject, fields in sorted(found)
        if not _is_explained(fields, [known for own, known in found if own == subject])
    )


def client_misuses(recordings: Recordings) -> tuple[Cause, ...]:
    """Return one finding for each rule that a call of a backend's client broke."""
    found = []
    for name, recording in recordings.items():
        for access, location in _accesses(recording):
            if access.operation != "misuse":
                continue
            origin = stack_origin(recording)
            placed = replace(origin, callee=None, location=location or origin.location)
            found.append(
                placed.finding(
                    Kind.ROW_BYTES_MISMATCH,
                    name,
                    where=f"storage {access.backend} client",
                    message=f"The client of {access.backend}: {access.key}.",
                    values=("memory and keys of its own", access.key),
                )
            )
    return tuple(found)


def _pages_by_key(recordings: Recordings) -> Mapping[tuple[str, ...], list[StoredPage]]:
    """Return the pages that were stored, one of each content and configuration, by storage key."""
    found: dict[tuple[str, ...], dict[tuple[str, str], StoredPage]] = {}
    for name, recording in recordings.items():
        for access, location in _accesses(recording):
            if access.operation != "store":
                continue
            storage = ("", access.backend) if access.backend else (name, "")
            page = StoredPage(scenario=name, recording=recording, access=access, location=location)
            own = found.setdefault((*storage, access.pool, access.key), {})
            own.setdefault((name, access.sha256), page)
    return {key: list(pages.values()) for key, pages in found.items()}


def _accesses(recording: Recording) -> Iterator[tuple[StorageAccess, Location | None]]:
    events, sites = recording.trace.events, recording.sites
    places = sites.events if sites is not None else (None,) * len(events)
    for event, place in zip(events, places, strict=True):
        if isinstance(event, StorageAccess):
            yield event, own_location(place)


def _subject(access: StorageAccess) -> str:
    return access.backend or access.pool


def _told_apart(one: StoredPage, other: StoredPage) -> tuple[str, ...]:
    """Return the fields of the configuration in which two pages differ, in alphabetical order."""
    if one.scenario == other.scenario:
        return (_REQUEST,)
    first, second = _config(one), _config(other)
    return tuple(sorted(name for name in first if first[name] != second.get(name)))


def _config(page: StoredPage) -> dict[str, Any]:
    return page.recording.trace.scenario.config


def _is_explained(fields: tuple[str, ...], known: list[tuple[str, ...]]) -> bool:
    return any(set(one) < set(fields) for one in known)


def _collision(fields: tuple[str, ...], one: StoredPage, other: StoredPage) -> Cause:
    origin = stack_origin(other.recording)
    access = other.access
    differ = " and ".join(f"{name} ({_value(one, name)}, {_value(other, name)})" for name in fields)
    finding = replace(origin, callee=None, location=other.location or origin.location).finding(
        Kind.STORAGE_KEY_COLLISION,
        one.scenario,
        where=f"{_subject(access)}: {', '.join(fields)}",
        message=f"Pages that differ in {differ} have one storage key {access.key}: "
        f"{one.access.bytes} bytes {one.access.sha256} and {access.bytes} bytes {access.sha256}.",
        values=(_page_report(one), _page_report(other)),
    )
    return msgspec.structs.replace(finding, scenarios=tuple(sorted({one.scenario, other.scenario})))


def _value(page: StoredPage, field: str) -> object:
    return _config(page).get(field, page.access.sha256)


def _page_report(page: StoredPage) -> dict[str, object]:
    access = page.access
    return {"bytes": access.bytes, "sha256": access.sha256}
