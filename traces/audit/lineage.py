"""Value lineage: the field that each constructor argument comes from, entry by entry."""

from collections.abc import Mapping, Sequence
from typing import Any

from traces.audit.assembly_calls import (
    CALLBACK,
    SCENARIO_CALLER,
    AssemblyCall,
    Recordings,
    assembly_calls,
)
from traces.audit.finding import entry_name, finding_rank
from traces.audit.value_sources import fields_by_scenario, sources_of
from traces.schema.verdict import Cause, Kind

Lineage = Mapping[str, Mapping[str, tuple[str, ...]]]
"""By ``callee.parameter``, then by entry: the fields whose value it has in every scenario."""

_Calls = Mapping[tuple[str, str], Sequence[tuple[AssemblyCall, Any]]]


def lineage_of(recordings: Recordings) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the sources of the arguments of every constructor, sorted by name.

    Only constructors that the code under guard calls count, not those of the scenario itself.
    """
    known = fields_by_scenario(assembly_calls(recordings))
    lineage: dict[str, dict[str, tuple[str, ...]]] = {}
    for (name, entry), pairs in sorted(_constructor_arguments(recordings).items()):
        lineage.setdefault(name, {})[entry] = sources_of(pairs, known=known).names
    return lineage


def changed_sources(recordings: Recordings, *, recorded: Lineage) -> tuple[Cause, ...]:
    """Return one finding for each argument that comes from elsewhere than on record.

    Fields that merely stopped being equal by chance are no change: one of those on record must
    still hold. Arguments and entries that the record does not know are not judged.
    """
    current, calls = lineage_of(recordings), _constructor_arguments(recordings)
    return tuple(
        _change(name, entry, before=before, after=after, calls=calls)
        for name, entries in recorded.items()
        for entry, before in entries.items()
        if (after := current.get(name, {}).get(entry)) is not None and not set(before) & set(after)
    )


def _constructor_arguments(recordings: Recordings) -> _Calls:
    """Return calls and values by argument and entry."""
    found: dict[tuple[str, str], list[tuple[AssemblyCall, Any]]] = {}
    for seen in assembly_calls(recordings):
        if seen.call.role == "constructor" and seen.caller != SCENARIO_CALLER:
            for item in seen.call.arguments:
                if item.value != CALLBACK:
                    key = (f"{seen.subject}.{item.name}", entry_name(seen.recording))
                    found.setdefault(key, []).append((seen, item.value))
    return found


def _change(
    name: str, entry: str, *, before: tuple[str, ...], after: tuple[str, ...], calls: _Calls
) -> Cause:
    own = [seen for seen, _ in calls[name, entry]]
    parameter = name.removeprefix(f"{own[0].subject}.")
    return Cause(
        kind=Kind.ARGUMENT_CHANGED,
        rank=finding_rank(Kind.ARGUMENT_CHANGED),
        where=f"{entry}: {name}",
        message=f"{parameter} of {own[0].subject} came from {' or '.join(before)}; "
        f"now it is {' or '.join(after)}.",
        builder=own[0].caller,
        callee=own[0].subject,
        parameter=parameter,
        before=list(before),
        after=list(after),
        location=own[0].location,
        scenarios=tuple(sorted({seen.scenario for seen in own})),
    )
