"""Scenarios that ended with an exception: a stack that fails needs no second side to compare."""

from collections.abc import Iterator
from dataclasses import replace

from traces.audit.assembly_calls import Recordings
from traces.audit.finding import own_location
from traces.audit.origins import stack_origin
from traces.schema.model import Call, Failure, Recording, Trace
from traces.schema.verdict import Cause, Kind


def failed_scenarios(recordings: Recordings) -> tuple[Cause, ...]:
    """Return one finding for each scenario that failed.

    Failures are the same when they are of one type and break one rule of one subject; where an
    exception does not say which, when they leave the same callee.
    """
    found = []
    for name, recording in recordings.items():
        outcome = recording.trace.outcome
        if outcome.ok or outcome.failure is None:
            continue
        origin, failure = stack_origin(recording), outcome.failure
        text = f"{failure.type}: {failure.message}"
        subject = ": ".join(filter(None, (failure.type, *_broken_rule(failure, recording))))
        line = None if recording.sites is None else own_location(recording.sites.failure)
        found.append(
            replace(origin, callee=None, location=line or origin.location).finding(
                Kind.OUTCOME_CHANGED,
                name,
                where=f"{outcome.failed_step}: {subject}",
                message=f"The scenario ends in step {outcome.failed_step}.",
                values=("ok", text),
            )
        )
    return tuple(found)


def _broken_rule(failure: Failure, recording: Recording) -> tuple[str, ...]:
    """Return subject and rule of a failure, else the innermost callee that it left."""
    if failure.rule:
        return failure.subject, failure.rule
    raising = [call for call in recording.trace.calls if call.raises == failure]
    inner = max(raising, key=lambda call: _depth(call, recording.trace), default=None)
    return () if inner is None else (f"in {inner.callee}",)


def _depth(call: Call, trace: Trace) -> int:
    """Return the number of recorded calls around a call."""
    parents = {one.call: one.parent for one in trace.calls}
    return sum(1 for _ in _ancestors(call.call, parents))


def _ancestors(label: str, parents: dict[str, str]) -> Iterator[str]:
    while label := parents.get(label, ""):
        yield label
