"""Steps that only one of two recordings has, where a side itself decides which there are.

A release's construction of device pools is run under every server flag that changes its pools. A
flag that changes none has no step: that is one difference, and not one for every call of the step.
"""

from collections.abc import Collection, Iterator
from itertools import compress
from typing import Any

import msgspec

from traces.diff.differences import DiffLayer
from traces.schema.model import Call, Recording
from traces.schema.verdict import Cause, Kind


def without_unshared_steps(
    base: Recording, head: Recording
) -> tuple[Recording, Recording, tuple[Cause, ...]]:
    """Return both recordings without the steps that one of them lacks, and a cause for each step.

    Nothing is left out of a scenario with a stack, whose steps are ours, nor of one that ended in
    an exception: it may have ended before them.
    """
    is_chosen = not base.trace.scenario.config.get("has_stack", True)
    if not (is_chosen and base.trace.outcome.ok and head.trace.outcome.ok):
        return base, head, ()
    old, new = _first_calls(base), _first_calls(head)
    gone = [step for step in old if step not in new]
    added = [step for step in new if step not in old]
    causes = (
        *(_changed_step(old[step], base, removed=True) for step in gone),
        *(_changed_step(new[step], head, removed=False) for step in added),
    )
    return _without(base, gone), _without(head, added), causes


def _first_calls(recording: Recording) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    for call in recording.trace.calls:
        calls.setdefault(call.step, call)
    return calls


def _changed_step(call: Call, recording: Recording, *, removed: bool) -> Cause:
    sites = recording.sites
    change = "changes the pools no more" if removed else "changes the pools now"
    return Cause(
        kind=Kind.CALL_REMOVED if removed else Kind.CALL_ADDED,
        before=call.step if removed else None,
        after=None if removed else call.step,
        where=f"{call.callee} under {call.step}",
        callee=f"{call.callee} under {call.step}",
        location=None if sites is None else sites.definitions.get(call.callee),
        message=f"{call.callee}: {call.step} {change}.",
        rank=(int(DiffLayer.ASSEMBLY), -1),
    )


def _without(recording: Recording, steps: Collection[str]) -> Recording:
    """Return a recording without some steps and the buffers of their objects."""
    if not steps:
        return recording
    trace, sites = recording.trace, recording.sites
    own: set[str] = set()
    others: set[str] = set()
    for call in trace.calls:
        labels = [*_labels(call.returns), *_labels([item.value for item in call.arguments])]
        (own if call.step in steps else others).update(labels)
    kept = [event.step not in steps for event in trace.events]
    if sites is not None:
        sites = msgspec.structs.replace(sites, events=tuple(compress(sites.events, kept)))
    lost = own - others
    trace = msgspec.structs.replace(
        trace,
        calls=tuple(call for call in trace.calls if call.step not in steps),
        objects={label: name for label, name in trace.objects.items() if label not in lost},
        tensors=tuple(one for one in trace.tensors if one.object not in lost),
        events=tuple(compress(trace.events, kept)),
        digests=tuple(one for one in trace.digests if one.step not in steps),
    )
    return Recording(trace=trace, sites=sites)


def _labels(value: Any) -> Iterator[str]:  # noqa: ANN401 - any encoded value
    """Yield the labels of all objects in a value."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _labels(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "ref":
                yield item
            else:
                yield from _labels(item)
