"""Findings that are one fault, as one: the surest of them, and the others as its consequences."""

from collections.abc import Callable, Hashable, Iterable, Sequence

import msgspec

from traces.schema.verdict import Cause, Confidence, Kind

_SUREST_FIRST: tuple[Confidence, ...] = ("certain", "likely", "possible", "")


def group_findings(
    causes: Iterable[Cause], *, fault: Callable[[Cause], Hashable]
) -> tuple[Cause, ...]:
    """Return one finding for each fault, in the order of their first ones.

    ``fault`` returns what the findings of one fault share.
    """
    groups: dict[Hashable, list[Cause]] = {}
    for cause in causes:
        groups.setdefault(fault(cause), []).append(cause)
    return tuple(map(_as_one, groups.values()))


def place_of_finding(cause: Cause) -> Hashable:
    """Return what findings share that nobody has to look at one by one.

    Arguments of one call have its line; of other findings line, scenarios and values are the same,
    as those of all planes of a pool that are lost together.
    """
    if cause.kind is Kind.SIBLING_DISAGREEMENT and cause.location is not None:
        return cause.kind, cause.location
    values = msgspec.json.encode((cause.before, cause.after))
    named = cause.where if cause.location is None else ""
    return cause.kind, cause.location, named, cause.scenarios, values


def _as_one(causes: Sequence[Cause]) -> Cause:
    first, *others = sorted(causes, key=lambda one: _SUREST_FIRST.index(one.confidence))
    if not others:
        return first
    return msgspec.structs.replace(
        first,
        message=f"{first.message} {len(causes)} findings are this one fault.",
        scenarios=tuple(sorted({name for one in causes for name in one.scenarios})),
        consequences=(*first.consequences, *(other.as_consequence() for other in others)),
    )
