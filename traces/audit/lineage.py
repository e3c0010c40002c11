"""Value lineage: the field that each constructor argument comes from, entry by entry."""

from collections.abc import Iterable, Mapping
from typing import Any

from traces.audit.assembly_calls import (
    CALLBACK,
    SCENARIO_CALLER,
    AssemblyCall,
    Recordings,
    assembly_calls,
    without_refusals,
)
from traces.audit.finding import entry_name, finding_rank
from traces.audit.value_sources import fields_by_scenario, sources_of
from traces.schema.verdict import Cause, Kind

Lineage = Mapping[str, Mapping[str, tuple[str, ...]]]
"""By ``callee.parameter``, then by entry: the fields whose value it has in every scenario."""


def lineage_of(recordings: Recordings) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return where the arguments of every constructor come from, sorted by name.

    Only constructors that the code under guard calls: what the player makes for it is its own.
    """
    calls = list(assembly_calls(without_refusals(recordings)))
    known = fields_by_scenario(calls)
    pairs: dict[tuple[str, str], list[tuple[AssemblyCall, Any]]] = {}
    for seen in calls:
        if seen.call.role != "constructor" or seen.caller == SCENARIO_CALLER:
            continue
        for item in seen.call.arguments:
            if item.value == CALLBACK:
                continue
            name = f"{seen.subject}.{item.name}"
            pairs.setdefault((name, entry_name(seen.recording)), []).append((seen, item.value))
    lineage: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, entry in sorted(pairs):
        found = sources_of(pairs[name, entry], known=known)
        lineage.setdefault(name, {})[entry] = found
    return lineage


def changed_sources(recordings: Recordings, *, recorded: Lineage) -> tuple[Cause, ...]:
    """Return one finding for each argument that comes from elsewhere than on record.

    Fields that merely stopped being equal by chance are no change: one of those on record must
    still hold. Arguments and entries that the record does not know are not judged.
    """
    current = lineage_of(recordings)
    calls = list(assembly_calls(recordings))
    return tuple(
        _change(name, entry, before=before, after=after, calls=calls)
        for name, entries in recorded.items()
        for entry, before in entries.items()
        if (after := current.get(name, {}).get(entry)) is not None and not set(before) & set(after)
    )


def _change(
    name: str,
    entry: str,
    *,
    before: tuple[str, ...],
    after: tuple[str, ...],
    calls: Iterable[AssemblyCall],
) -> Cause:
    subject, _, parameter = name.rpartition(".")
    own = [
        seen
        for seen in calls
        if seen.subject == subject
        and seen.caller != SCENARIO_CALLER
        and entry_name(seen.recording) == entry
    ]
    told_before, told_after = " or ".join(before), " or ".join(after)
    return Cause(
        kind=Kind.ARGUMENT_CHANGED,
        rank=finding_rank(Kind.ARGUMENT_CHANGED),
        where=f"{entry}: {name}",
        message=f"{parameter} of {subject} came from {told_before}; now it is {told_after}.",
        builder=own[0].caller,
        callee=subject,
        parameter=parameter,
        before=list(before),
        after=list(after),
        location=own[0].location,
        scenarios=tuple(sorted({seen.scenario for seen in own})),
    )
