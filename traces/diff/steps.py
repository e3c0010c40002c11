"""Steps that only one of two recordings has, or comes to the end of.

A release's construction of device pools is run under every server flag that changes its pools. A
flag that changes none has no step: that is one difference, and not one for every call of the step.
Where a scenario tries several assemblies, it goes on when a release refuses one: the buffers of
that assembly are there on one side only, and follow from the refusal.
"""

from collections.abc import Collection, Iterable, Iterator
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


def without_refused_buffers(base: Recording, head: Recording) -> tuple[Recording, Recording]:
    """Return both recordings without the buffers of assemblies that one of them refuses.

    Nothing is left out of a scenario that ended in an exception.
    """
    if not (base.trace.outcome.ok and head.trace.outcome.ok):
        return base, head
    refused = refused_steps(base.trace.calls) ^ refused_steps(head.trace.calls)
    if not refused:
        return base, head
    old, new = (_without_buffers(one, _objects_of(one, refused)) for one in (base, head))
    return old, new


def refused_steps(calls: Iterable[Call]) -> frozenset[str]:
    """Return the steps in which a call of the scenario itself raised."""
    return frozenset(call.step for call in calls if call.raises is not None and not call.parent)


def _without(recording: Recording, steps: Collection[str]) -> Recording:
    """Return a recording without some steps and the buffers of their objects."""
    if not steps:
        return recording
    lost = _objects_of(recording, steps)
    trace, sites = recording.trace, recording.sites
    kept = [event.step not in steps for event in trace.events]
    if sites is not None:
        sites = msgspec.structs.replace(sites, events=tuple(compress(sites.events, kept)))
    trace = msgspec.structs.replace(
        trace,
        calls=tuple(call for call in trace.calls if call.step not in steps),
        objects={label: name for label, name in trace.objects.items() if label not in lost},
        events=tuple(compress(trace.events, kept)),
        digests=tuple(one for one in trace.digests if one.step not in steps),
    )
    return _without_buffers(Recording(trace=trace, sites=sites), lost)


def _without_buffers(recording: Recording, lost: Collection[str]) -> Recording:
    kept = tuple(one for one in recording.trace.tensors if one.object not in lost)
    trace = msgspec.structs.replace(recording.trace, tensors=kept)
    return Recording(trace=trace, sites=recording.sites)


def _objects_of(recording: Recording, steps: Collection[str]) -> set[str]:
    """Return the labels of objects that calls of some steps name, and no others."""
    own: set[str] = set()
    others: set[str] = set()
    for call in recording.trace.calls:
        labels = [*_labels(call.returns), *_labels([item.value for item in call.arguments])]
        (own if call.step in steps else others).update(labels)
    return own - others


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
