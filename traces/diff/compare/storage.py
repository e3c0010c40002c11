"""Order of differences of storage: a page is stored before it is looked for, and then fetched.

Threads store, look for and fetch pages, and a trace has one thread after the other, so that the
order of its events does not tell which access comes first.
"""

from collections.abc import Iterable

from traces.diff.compare.events import EventDifference
from traces.schema.storage_records import StorageAccess, StorageOperation

_ORDER: tuple[StorageOperation, ...] = (
    "open",
    "refuse",
    "misuse",
    "store",
    "write",
    "query",
    "fetch",
    "read",
    "clear",
    "close",
)


def in_order_of_use(differences: Iterable[EventDifference]) -> list[EventDifference]:
    """Return differences in the order of the events, those of storage in the order of their use.

    Differences of storage in one step take each other's places; others keep theirs.
    """
    found = list(differences)
    by_step: dict[str, list[EventDifference]] = {}
    for one in found:
        if isinstance(one.event, StorageAccess):
            by_step.setdefault(one.event.step, []).append(one)
    for own in by_step.values():
        places = sorted(one.position for one in own)
        ordered = sorted(own, key=lambda one: (place_of_use(one.event), one.position))
        for one, place in zip(ordered, places, strict=True):
            one.position = place
    return sorted(found, key=lambda one: one.rank)


def place_of_use(event: object) -> int:
    """Return the place of an access among those of a page's life; later than all for no access."""
    return _ORDER.index(event.operation) if isinstance(event, StorageAccess) else len(_ORDER)
