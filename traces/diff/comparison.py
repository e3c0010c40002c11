"""Comparison of two recordings of one scenario, and of two sides with many scenarios."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from traces.diff.aliases import NO_ALIASES, Aliases, alias_causes
from traces.diff.attribute.attribution import Attribution
from traces.diff.attribute.causes import CauseFinder, CauseIndex
from traces.diff.attribute.lineage import ArgumentChains, PoolFlow
from traces.diff.compare.backends import without_unshared_backends
from traces.diff.compare.calls import argument_changes, calls_with_new_caller, reordered_calls
from traces.diff.compare.events import (
    EventComparison,
    EventDifference,
    EventFamily,
    without_race_text,
    without_unshared_reads,
)
from traces.diff.compare.pools import pool_differences
from traces.diff.compare.results import (
    digest_differences,
    ending_differences,
    refusals_among,
    returned_differences,
)
from traces.diff.compare.storage import in_order_of_use
from traces.diff.compare.tensors import tensor_differences
from traces.diff.differences import GIVEN_KINDS, TAKEN_KINDS, Difference, DiffLayer
from traces.diff.index import RecordingIndex, argument_values
from traces.diff.locations import LocationFinder
from traces.diff.pairing import CallPairing, pair_calls, renamed_parameters
from traces.diff.report import CauseWriter
from traces.diff.steps import without_refused_buffers, without_unshared_steps
from traces.diff.values import Value
from traces.schema.model import Allocation, Call, Recording, Trace
from traces.schema.verdict import Cause, Consequence, Kind, Level, Variant

_Key = tuple[object, ...]
_CALL_KINDS = (Kind.CALL_ADDED, Kind.CALL_REMOVED, Kind.RENAMED)
_SCENARIO_KINDS = (Kind.SCENARIO_ADDED, Kind.SCENARIO_REMOVED)
_ARGUMENT_KINDS = (*GIVEN_KINDS, *TAKEN_KINDS, Kind.ARGUMENT_CHANGED)
_BUFFER_KINDS = (
    Kind.SHAPE_CHANGED,
    Kind.DTYPE_CHANGED,
    Kind.STRIDE_CHANGED,
    Kind.BYTES_CHANGED,
    Kind.LAYERS_CHANGED,
    Kind.POOL_ADDED,
    Kind.POOL_REMOVED,
)


def diff(base: Recording | Trace, head: Recording | Trace) -> tuple[Cause, ...]:
    """Return the causes why two traces of one scenario differ, most upstream first.

    The result is empty exactly when the two traces have the same canonical content, but for the
    text of races. Time and memory are linear in the number of events.
    """
    old, new = RecordingIndex.of(base), RecordingIndex.of(head)
    if msgspec.json.encode(old.trace) == msgspec.json.encode(new.trace):
        return ()
    return upstream_first(_find_causes(old, new))


def compare_sides(
    base: Mapping[str, Recording], head: Mapping[str, Recording], *, aliases: Aliases = NO_ALIASES
) -> tuple[Cause, ...]:
    """Return the causes why two sides differ, merged over their scenarios.

    A scenario that only one side has is ``scenario_added`` or ``scenario_removed``. Both sides are
    brought to the newest names of ``aliases``.
    """
    causes: dict[str, tuple[Cause, ...]] = {}
    for name in sorted(base.keys() & head.keys()):
        old, old_names = aliases.applied(base[name])
        new, new_names = aliases.applied(head[name])
        renames = alias_causes(old_names, new_names)
        shared = without_unshared_backends(*without_unshared_reads(old, new))
        old, new, steps = without_unshared_steps(*shared)
        causes[name] = (*steps, *diff(*without_refused_buffers(old, new)), *renames)
    for name in sorted(base.keys() ^ head.keys()):
        causes[name] = (_unmatched_scenario(name, removed=name in base),)
    return merge_causes(causes)


def _find_causes(base: RecordingIndex, head: RecordingIndex) -> list[Cause]:
    """Pair the calls, compare everything, find the causes and give them all consequences."""
    pairing = pair_calls(base, head)
    parameters = renamed_parameters(pairing)
    changes = {
        pair.head.call: argument_changes(pair, pairing=pairing, parameters=parameters)
        for pair in pairing.pairs
    }
    chains = ArgumentChains(pairing=pairing, changes=changes)
    event_comparison = EventComparison.of(pairing)
    events = in_order_of_use(event_comparison.differences())
    locations = LocationFinder(pairing=pairing, events=event_comparison)
    renames = _rename_causes(pairing, parameters, locations)
    index = CauseIndex(pairing=pairing, causes=[*_configuration_causes(pairing), *renames])
    finder = CauseFinder(
        pairing=pairing,
        chains=chains,
        locations=locations,
        cause_index=index,
        changed_steps=frozenset(_changed_steps(pairing, events)),
    )
    finder.walk()
    _attribute(finder, events)
    if not index.causes and not _differ_in_race_text(base.trace, head.trace):
        index.causes.append(_format_cause(pairing))
    writer = CauseWriter(pairing=pairing, chains=chains, locations=locations)
    return [writer.cause(found) for found in index.causes]


def _differ_in_race_text(base: Trace, head: Trace) -> bool:
    """Return whether two traces are the same but for what their races say to people."""
    old, new = (
        msgspec.structs.replace(trace, events=tuple(map(without_race_text, trace.events)))
        for trace in (base, head)
    )
    return old == new


def _attribute(finder: CauseFinder, events: Sequence[EventDifference]) -> None:
    """Assign all that is no argument, from the buffers down to the outcome."""
    pairing = finder.pairing
    tensors, digests = tensor_differences(pairing), [*digest_differences(pairing)]
    reordered = [*reordered_calls(pairing)]
    late = [found for found in reordered if found.layer is DiffLayer.OPERATIONS]
    early = [found for found in reordered if found.layer is DiffLayer.ASSEMBLY]
    answers = [*pool_differences(pairing)]
    cut = [found for found in (*tensors, *events, *digests, *answers) if found.truncated]
    whole_events = tuple(found for found in events if not found.truncated)
    attribution = Attribution(
        pairing=pairing,
        cause_index=finder.cause_index,
        flow=PoolFlow(pairing=pairing, events=whole_events),
        locations=finder.locations,
    )
    endings, ends = [*ending_differences(pairing)], [*finder.truncated]
    gone = [*refusals_among(pairing, endings, gone=True)]
    new = [*refusals_among(pairing, endings, gone=False)]
    attribution.assign_refusals(gone, ends)
    attribution.assign_tensors([found for found in tensors if not found.truncated])
    attribution.assign_refusals(new, ends)
    attribution.assign_events(whole_events)
    whole = [found for found in digests if not found.truncated]
    attribution.assign_downstream([*finder.deferred, *late, *returned_differences(pairing), *whole])
    attribution.assign_answers([found for found in answers if not found.truncated])
    refused = {id(found) for series in (*gone, *new) for found in series}
    others = [found for found in endings if id(found) not in refused]
    attribution.assign_ending(others, [*ends, *cut])
    attribution.assign_interface([*early, *calls_with_new_caller(pairing)])


def _changed_steps(pairing: CallPairing, events: Sequence[EventDifference]) -> Iterator[str]:
    """Yield the steps that come after a transfer that differs, or with another allocation."""
    steps = list(dict.fromkeys(call.step for call in (*pairing.head.calls, *pairing.base.calls)))
    first = len(steps)
    for found in events:
        step = found.event.step
        if found.family is EventFamily.DATA and not found.truncated and step in steps:
            decides = found.kind is Kind.TRANSFER_CHANGED and isinstance(found.event, Allocation)
            first = min(first, steps.index(step) + (not decides))
    yield from steps[first:]


def _configuration_causes(pairing: CallPairing) -> Iterator[Difference]:
    """Yield the cause that the two scenarios are configured differently to begin with."""
    old, new = (side.trace.scenario.config for side in (pairing.base, pairing.head))
    keys = [
        key for key in {**old, **new} if _encoded_setting(old, key) != _encoded_setting(new, key)
    ]
    if keys:
        yield Difference(
            kind=Kind.ARGUMENT_CHANGED,
            level=Level.FORMAT,
            can_explain=True,
            layer=DiffLayer.ASSEMBLY,
            position=-1,
            where="scenario configuration",
            before={key: old.get(key) for key in keys},
            after={key: new.get(key) for key in keys},
            callee="scenario",
            message=f"the scenario itself has another configuration: {', '.join(keys)}.",
        )


def _rename_causes(
    pairing: CallPairing, parameters: Mapping[str, str], locations: LocationFinder
) -> Iterator[Difference]:
    """Yield one cause for every callee and every parameter that has a new name."""
    renamed: dict[tuple[bool, str, str], list[Call]] = {}
    for pair in pairing.pairs:
        if pair.base.callee != pair.head.callee:
            renamed.setdefault((False, pair.base.callee, pair.head.callee), []).append(pair.head)
        old, new = argument_values(pair.base), argument_values(pair.head)
        for parameter, name in parameters.items():
            if parameter in old and name in new and parameter not in new:
                renamed.setdefault((True, parameter, name), []).append(pair.head)
    for (is_parameter, before, after), calls in sorted(renamed.items(), key=lambda one: one[0][0]):
        yield Difference(
            kind=Kind.RENAMED,
            level=Level.INTERFACE,
            layer=DiffLayer.ASSEMBLY,
            position=2 * pairing.head.positions[calls[0].call] + 1,
            where=before,
            before=before,
            after=after,
            callee=calls[0].callee,
            parameter=after if is_parameter else None,
            location=locations.of_definition(calls[0].callee),
            count=len(calls),
            message=f"{before} is now called {after}.",
        )


def _format_cause(pairing: CallPairing) -> Difference:
    """Return the cause for traces that differ only in order or in labels without meaning."""
    old, new = pairing.base.trace.schema, pairing.head.trace.schema
    return Difference(
        kind=Kind.FORMAT_CHANGED,
        level=Level.FORMAT,
        layer=DiffLayer.OUTCOME,
        position=len(pairing.head.calls),
        where="trace",
        before=None if old == new else old,
        after=None if old == new else new,
        message=_doubled_record(pairing)
        or "the traces say the same in another order or with other labels.",
    )


def _doubled_record(pairing: CallPairing) -> str:
    """Return a sentence on the first call or buffer that one side records more often, or nothing.

    An event that is doubled is a difference of its own.
    """
    old, new = (
        Counter(
            [
                *(call.call for call in side.trace.calls),
                *(f"{tensor.owner}.{tensor.name}" for tensor in side.trace.tensors),
            ]
        )
        for side in (pairing.base, pairing.head)
    )
    for name in new | old:
        if old[name] != new[name]:
            numbers = f"{old[name]} in the base, {new[name]} in the head"
            return f"a record is doubled: the records of {name} are {numbers}."
    return ""


def _unmatched_scenario(name: str, *, removed: bool) -> Cause:
    return Cause(
        kind=Kind.SCENARIO_REMOVED if removed else Kind.SCENARIO_ADDED,
        before=name if removed else None,
        after=None if removed else name,
        scenarios=(name,),
        where=name,
        message=f"the scenario {name} is {'gone' if removed else 'new'}.",
        rank=(int(DiffLayer.ASSEMBLY), -1),
    )


def _encoded_setting(config: Mapping[str, Value], key: str) -> bytes:
    present = [config[key]] if key in config else []
    return msgspec.json.encode(present, order="sorted")


def merge_causes(per_scenario: Mapping[str, tuple[Cause, ...]]) -> tuple[Cause, ...]:
    """Merge causes that are the same edit, and sort them most upstream first.

    Causes are the same edit when they have the same kind, parameter and line; without a line, the
    same builder, callee and place. Calls are told apart by their callee; a name that several
    functions publish is renamed once. The scenario names are the keys of the mapping. A cause is as
    bad as in its worst scenario.
    """
    groups: dict[_Key, list[Cause]] = {}
    for name in sorted(per_scenario):
        for cause in per_scenario[name]:
            named = msgspec.structs.replace(cause, scenarios=(name,))
            groups.setdefault(_key(named), []).append(named)
    return upstream_first(_merged(group) for group in groups.values())


def upstream_first(causes: Iterable[Cause]) -> tuple[Cause, ...]:
    """Sort causes: by level, then by upstreamness, then by number of scenarios.

    Of causes that change behaviour, those that show in buffers, events or results come before those
    that nothing follows from.
    """
    return tuple(sorted(causes, key=_cause_order))


def _cause_order(cause: Cause) -> tuple[object, ...]:
    shows = any(one.level is Level.BEHAVIOUR for one in cause.consequences)
    is_unseen = cause.kind in _ARGUMENT_KINDS and not shows
    names = (cause.parameter or "", cause.where, cause.scenarios)
    return (cause.level.rank, is_unseen, cause.rank, -len(cause.scenarios), *names)


def _key(cause: Cause) -> _Key:
    if cause.kind in _SCENARIO_KINDS:
        return (cause.kind, cause.scenarios)
    if cause.kind is Kind.RENAMED and cause.parameter is not None:
        return (cause.kind, cause.parameter, _encoded(cause.before, cause.after))
    place = cause.location or (cause.builder, cause.callee, cause.subject or cause.where)
    callee = cause.callee if cause.kind in _CALL_KINDS else None
    return (cause.kind, cause.parameter, callee, place)


def _merged(causes: Sequence[Cause]) -> Cause:
    """Merge causes of different scenarios; the first variant gives the shown values."""
    variants = _variants(causes)
    shown = next(cause for cause in causes if cause.scenarios[0] in variants[0].scenarios)
    return msgspec.structs.replace(
        shown,
        level=Level.worst(cause.level for cause in causes),
        scenarios=_scenarios(causes),
        consequences=_consequences(causes, shown),
        variants=variants if len(variants) > 1 else (),
        count=max(cause.count for cause in causes),
        rank=min(cause.rank for cause in causes),
    )


def _variants(causes: Sequence[Cause]) -> tuple[Variant, ...]:
    """Return the different values, sorted by level and consequences."""
    groups: dict[bytes, list[Cause]] = {}
    for cause in causes:
        groups.setdefault(_encoded(cause.before, cause.after), []).append(cause)
    ordered = sorted(
        groups.values(),
        key=lambda group: (
            min(cause.level.rank for cause in group),
            _encoded(group[0].before, None) == _encoded(group[0].after, None),
            -max(len(cause.consequences) for cause in group),
            -len(group),
            group[0].scenarios,
        ),
    )
    return tuple(
        Variant(before=group[0].before, after=group[0].after, scenarios=_scenarios(group))
        for group in ordered
    )


def _scenarios(causes: Iterable[Cause]) -> tuple[str, ...]:
    return tuple(sorted({name for cause in causes for name in cause.scenarios}))


def _consequences(causes: Sequence[Cause], shown: Cause) -> tuple[Consequence, ...]:
    """Add up equal consequences and sort them by importance.

    Buffers, then how the scenario ended, then bytes that came back wrong, then everything else;
    within each those of the shown cause first, most upstream first.
    """
    groups: dict[tuple[Kind, str], list[Consequence]] = {}
    for cause in (shown, *(cause for cause in causes if cause is not shown)):
        for one in cause.consequences:
            groups.setdefault((one.kind, one.where), []).append(one)
    added = []
    for group in groups.values():
        level, count = Level.worst(one.level for one in group), sum(one.count for one in group)
        added.append(msgspec.structs.replace(group[0], level=level, count=count))
    return tuple(sorted(added, key=_consequence_order))


def _consequence_order(consequence: Consequence) -> int:
    if consequence.kind in _BUFFER_KINDS:
        return 0
    if consequence.kind is Kind.OUTCOME_CHANGED:
        return 1
    # The values of a digest of content are texts; round trips, readings and matches have fields.
    has_fields = isinstance(consequence.after or consequence.before, dict)
    return 2 if consequence.kind is Kind.DIGEST_CHANGED and has_fields else 3


def _encoded(before: Value, after: Value) -> bytes:
    return msgspec.json.encode([before, after], order="sorted")
