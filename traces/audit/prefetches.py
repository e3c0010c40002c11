"""Prefetches that keep tokens whose pages did not arrive from storage.

Sees: a prefix that is not cut to what every pool has, and a partial success that is taken for a
whole one. A request that later loads such tokens reads what the slots held before.
"""

from collections.abc import Iterator

from traces.audit.assembly_calls import Recordings
from traces.audit.origins import stack_origin
from traces.schema.model import Recording
from traces.schema.storage_records import StorageMatch
from traces.schema.verdict import Cause, Kind


def unbacked_prefetches(recordings: Recordings) -> tuple[Cause, ...]:
    """Return one finding for each way in which more tokens were kept than arrived."""
    return tuple(cause for name, one in recordings.items() for cause in _of_scenario(name, one))


def _of_scenario(name: str, recording: Recording) -> Iterator[Cause]:
    for match in recording.trace.digests:
        if not isinstance(match, StorageMatch) or match.available is None:
            continue
        available = max(0, match.available)
        if match.arrived <= available:
            continue
        origin = stack_origin(recording)
        yield origin.finding(
            Kind.STALE_AFTER_RESTORE,
            name,
            where=f"{origin.builder}: prefetch {match.phase}",
            message=f"A prefetch of {match.asked} tokens, {match.phase}, keeps {match.arrived}, "
            f"and storage hands out the pages of every pool for {available}.",
            values=({"arrived": available}, {"arrived": match.arrived}),
        )
