"""Scenarios that did not end well: a stack that cannot be built or used needs no second side."""

import re

from traces.audit.assembly_calls import Recordings
from traces.audit.finding import finding_rank, own_location
from traces.audit.origins import stack_origin
from traces.schema.verdict import Cause, Kind

_NUMBER = re.compile(r"\d+")


def failed_scenarios(recordings: Recordings) -> tuple[Cause, ...]:
    """Return one finding for each way in which scenarios ended with an exception."""
    found = []
    for name, recording in recordings.items():
        outcome = recording.trace.outcome
        if outcome.ok or outcome.failure is None:
            continue
        failure, origin = outcome.failure, stack_origin(recording)
        line = None if recording.sites is None else own_location(recording.sites.failure)
        said = f"{failure.type}: {failure.message}"
        found.append(
            Cause(
                kind=Kind.OUTCOME_CHANGED,
                rank=finding_rank(Kind.OUTCOME_CHANGED),
                where=f"{outcome.failed_step}: {_NUMBER.sub('*', said)}",
                message=f"The scenario ends in step {outcome.failed_step}.",
                builder=origin.builder,
                before="ok",
                after=said,
                location=line or origin.location,
                scenarios=(name,),
            )
        )
    return tuple(found)
