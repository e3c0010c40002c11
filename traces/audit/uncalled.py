"""Methods of pools that no scenario could call: what they hand out was not judged."""

from collections.abc import Iterator
from typing import TypeAlias

from traces.audit.assembly_calls import Recordings
from traces.audit.finding import definition_location, entry_name
from traces.audit.origins import AssemblyOrigin
from traces.schema.model import Location, Recording
from traces.schema.pools import PageAccess, PoolAccessor, PoolAnswer, RowWrite
from traces.schema.verdict import Cause, Kind

_Call: TypeAlias = PoolAnswer | PoolAccessor | PageAccess | RowWrite
_Called = tuple[str, Recording, _Call]


def uncalled_methods(recordings: Recordings) -> tuple[Cause, ...]:
    """Return one finding for each method that failed in every scenario, with the first reason.

    A method is known by its line: pools under one path are of other classes in other scenarios.
    """
    methods: dict[Location, list[_Called]] = {}
    for name, recording in recordings.items():
        for line, record in _records(recording):
            methods.setdefault(line, []).append((name, recording, record))
    return tuple(
        _finding(line, calls)
        for line, calls in methods.items()
        if all(record.reason for _, _, record in calls)
    )


def _records(recording: Recording) -> Iterator[tuple[Location, _Call]]:
    for one in recording.trace.digests:
        if isinstance(one, _Call):
            line = definition_location(recording, f"{one.holder}.{one.method}")
            if line is not None:
                yield line, one


def _finding(line: Location, calls: list[_Called]) -> Cause:
    name, recording, record = calls[0]
    method = f"{record.holder}.{record.method}"
    origin = AssemblyOrigin(builder=entry_name(recording), callee=None, location=line)
    return origin.finding(
        Kind.UNCALLED_METHOD,
        name,
        where=method,
        message=f"{method} could not be called in any scenario: {record.reason}.",
        values=("an answer", record.reason),
    )
