"""Causes of differences in the use of storage backends."""

from traces.diff.compare.events import EventDifference
from traces.diff.compare.storage import place_of_use
from traces.diff.differences import Difference
from traces.schema.storage_records import StorageAccess

# An access that opens storage tells settings: other accesses need not follow from one that differs.
_SETTINGS = ("open", "refuse")


class StorageCauses:
    """Causes of the differences of accesses, by backend and pool.

    A page that is not stored as before is not looked for and fetched as before either.
    """

    def __init__(self) -> None:
        self._causes: dict[tuple[str, str], dict[int, Difference]] = {}

    def add(self, found: EventDifference, cause: Difference) -> None:
        """Keep the cause of a difference; the first of each operation counts."""
        access = found.event
        if isinstance(access, StorageAccess) and access.operation not in _SETTINGS:
            known = self._causes.setdefault((access.backend, access.pool), {})
            known.setdefault(place_of_use(access), cause)

    def cause_of(self, found: EventDifference) -> Difference | None:
        """Return the cause of what happened earlier in the life of a page; None for none."""
        access = found.event
        if not isinstance(access, StorageAccess):
            return None
        known = self._causes.get((access.backend, access.pool), {})
        place = place_of_use(access)
        return next((known[one] for one in sorted(known) if one < place), None)
