"""Scenarios that ended with an exception: a stack that fails needs no second side to compare."""

import re
from dataclasses import replace

from traces.audit.assembly_calls import Recordings
from traces.audit.finding import own_location
from traces.audit.origins import stack_origin
from traces.schema.verdict import Cause, Kind

_NUMBER = re.compile(r"\d+")


def failed_scenarios(recordings: Recordings) -> tuple[Cause, ...]:
    """Return one finding for each scenario that failed; equal failures but for numbers are one."""
    found = []
    for name, recording in recordings.items():
        outcome = recording.trace.outcome
        if outcome.ok or outcome.failure is None:
            continue
        origin, failure = stack_origin(recording), outcome.failure
        text = f"{failure.type}: {failure.message}"
        line = None if recording.sites is None else own_location(recording.sites.failure)
        found.append(
            replace(origin, callee=None, location=line or origin.location).finding(
                Kind.OUTCOME_CHANGED,
                name,
                where=f"{outcome.failed_step}: {_NUMBER.sub('*', text)}",
                message=f"The scenario ends in step {outcome.failed_step}.",
                values=("ok", text),
            )
        )
    return tuple(found)
