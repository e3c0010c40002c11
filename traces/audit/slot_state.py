"""Findings of state of a slot that is left behind when the slot is copied, cleared or saved."""

from collections.abc import Iterator
from dataclasses import replace

from traces.audit.assembly_calls import Recordings
from traces.audit.finding import definition_location
from traces.audit.origins import stack_origin
from traces.schema.model import Recording
from traces.schema.pools import SlotOperation
from traces.schema.verdict import Cause, Kind


def left_behind(recordings: Recordings) -> tuple[Cause, ...]:
    """Return one finding for each plane that an operation leaves and takes others of the pool."""
    return tuple(cause for name, one in recordings.items() for cause in _of_scenario(name, one))


def _of_scenario(name: str, recording: Recording) -> Iterator[Cause]:
    operations = [
        one
        for one in recording.trace.digests
        if isinstance(one, SlotOperation) and one.is_plane and not one.reason
    ]
    taken = {(one.holder, one.method): one.subject for one in operations if one.carried}
    for one in operations:
        other = taken.get((one.holder, one.method))
        if one.carried or other is None:
            continue
        method = f"{one.holder}.{one.method}"
        line = definition_location(recording, method)
        origin = replace(stack_origin(recording), callee=None, location=line)
        yield origin.finding(
            Kind.STATE_LEFT_BEHIND,
            name,
            where=f"{method}: {one.subject}",
            message=f"{method} takes {other} of a slot along and leaves {one.subject} behind.",
            values=("taken along", "left behind"),
        )
