"""Value lineage: the field that each constructor argument comes from, entry by entry.

Sentinels are unique, so a value that equals a field's in all scenarios comes from there.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from traces.audit.assembly_calls import (
    CALLBACK,
    SCENARIO_CALLER,
    AssemblyCall,
    Recordings,
    assembly_calls,
    encode_value,
    has_few_values,
    value_text,
)
from traces.audit.finding import entry_name, finding_rank
from traces.schema.references import with_classes
from traces.schema.verdict import Cause, Kind

Lineage = Mapping[str, Mapping[str, tuple[str, ...]]]
"""By ``callee.parameter``, then by entry: the fields whose value it has in every scenario."""

Fields = Mapping[str, bytes]
"""Encoded values by name of the field."""

_Calls = Mapping[tuple[str, str], Sequence[tuple[AssemblyCall, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSources:
    """The sources of the value of one argument.

    Attributes:
        fields: every field that has the value in all calls, sorted: ``config.page_size``,
            ``entry.model_name``, ``MLATokenToKVPool.kv_lora_rank``.
        constant: text of a value that never changes and that no field has; empty for none.
        is_literal: whether that value is no object.
    """

    fields: tuple[str, ...] = ()
    constant: str = ""
    is_literal: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The fields; without any ``constant X`` or ``computed``."""
        return self.fields or (f"constant {self.constant}" if self.constant else "computed",)


def lineage_of(recordings: Recordings) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the sources of the arguments of every constructor, sorted by name.

    Only constructors that the code under guard calls count, not those of the scenario itself.
    """
    known = fields_by_scenario(assembly_calls(recordings))
    lineage: dict[str, dict[str, tuple[str, ...]]] = {}
    for (name, entry), pairs in sorted(_constructor_arguments(recordings).items()):
        lineage.setdefault(name, {})[entry] = sources_of(pairs, known=known).names
    return lineage


def models_of(recordings: Recordings) -> tuple[str, ...]:
    """Return the models of the scenarios, sorted."""
    configs = (recording.trace.scenario.config for recording in recordings.values())
    return tuple(sorted({config["model"] for config in configs if "model" in config}))


def scenarios_of(models: Collection[str] | None, recordings: Recordings) -> Recordings:
    """Return the scenarios of some models; all of them for None.

    A new pool family takes paths on which arguments have other sources than those on record.
    """
    if models is None:
        return recordings
    return {
        name: recording
        for name, recording in recordings.items()
        if recording.trace.scenario.config.get("model") in models
    }


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


def sources_of(
    pairs: Iterable[tuple[AssemblyCall, Any]], *, known: Mapping[str, Fields]
) -> ValueSources:
    """Return the sources of an argument's value, from its value in every call."""
    values: list[Any] = []
    surviving: set[str] | None = None
    distinctive: set[str] = set()
    for seen, value in pairs:
        plain = with_classes(value, seen.recording.trace.objects)
        values.append(plain)
        names = {name for name, own in known[seen.scenario].items() if own == encode_value(plain)}
        # Flags, callbacks and the smallest numbers are equal by chance.
        if not has_few_values(value) and value not in (0, 1):
            distinctive |= names
        surviving = names if surviving is None else surviving & names
    if fields := tuple(sorted((surviving or set()) & distinctive)):
        return ValueSources(fields=fields)
    if len({encode_value(value) for value in values}) == 1:
        text = value_text(values[0])
        return ValueSources(constant=text, is_literal=not isinstance(values[0], dict))
    return ValueSources()


def fields_by_scenario(
    calls: Iterable[AssemblyCall], *, only_given: bool = False
) -> dict[str, dict[str, bytes]]:
    """Return the fields of every scenario that values can come from, with their values.

    These are the axes of its configuration, the arguments of the entry that it calls, and what
    the device pools were made with; with ``only_given`` no argument that a default filled in.
    """
    known: dict[str, dict[str, bytes]] = {}
    for seen in calls:
        if seen.scenario not in known:
            config = seen.recording.trace.scenario.config
            known[seen.scenario] = {f"config.{name}": encode_value(config[name]) for name in config}
        if seen.caller == SCENARIO_CALLER:
            owner = "entry" if seen.call.role == "builder" else seen.call.callee
            for item in seen.call.arguments:
                if only_given and not item.given:
                    continue
                plain = with_classes(item.value, seen.recording.trace.objects)
                value = encode_value(plain)
                known[seen.scenario][f"{owner}.{item.name}"] = value
    return known


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
    passed = (item.name for item in own[0].call.arguments)
    parameter = next(one for one in passed if f"{own[0].subject}.{one}" == name)
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
