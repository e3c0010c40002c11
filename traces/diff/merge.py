"""Merging of equal causes of many scenarios into one cause."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from traces.diff.differences import GIVEN_KINDS, TAKEN_KINDS
from traces.diff.values import Value
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


def merge_causes(per_scenario: Mapping[str, tuple[Cause, ...]]) -> tuple[Cause, ...]:
    """Merge causes that are the same edit, and sort them most upstream first.

    Causes are the same edit when they have the same kind, parameter and line; without a line, the
    same builder, callee and place. Calls are told apart by their callee. The scenario names are
    the keys of the mapping. A cause is as bad as in its worst scenario.
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
