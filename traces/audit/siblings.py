"""Sibling disagreement: one callee, called from several functions, wired in different ways.

Compared is what is passed, not how it is written: a keyword given its own default is the same as
one left out. Calls for different pools are not siblings.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from traces.audit.assembly_calls import (
    SCENARIO_CALLER,
    AssemblyCall,
    Recordings,
    assembly_calls,
    encode_value,
)
from traces.audit.finding import finding_rank
from traces.audit.value_sources import Fields, fields_by_scenario, is_field, is_literal, sources_of
from traces.schema.model import Location
from traces.schema.verdict import Cause, Kind

_Pairs = list[tuple[AssemblyCall, Any, bool]]
_ByCaller = Mapping[str, _Pairs]


def sibling_disagreements(recordings: Recordings) -> tuple[Cause, ...]:
    """Return one finding for each function that leaves out, or takes from elsewhere, an argument.

    A function that leaves out what its siblings pass is named; where it passes a value that never
    changes, its siblings must take theirs from a field.
    """
    calls = list(assembly_calls(recordings))
    known = fields_by_scenario(calls)
    return tuple(
        cause
        for (subject, parameter), callers in _passed_by_caller(calls).items()
        for cause in (
            *_left_out(subject, parameter, callers),
            *_constant_beside_fields(subject, parameter, callers, known=known),
        )
    )


def _passed_by_caller(calls: Sequence[AssemblyCall]) -> dict[tuple[str, str], dict[str, _Pairs]]:
    """Return by callee and parameter who passes what: value, and whether it was given."""
    wirings: dict[tuple[str, str], dict[str, _Pairs]] = {}
    for seen in calls:
        for item in seen.call.arguments:
            callers = wirings.setdefault((seen.subject, item.name), {})
            callers.setdefault(seen.caller, []).append((seen, item.value, item.given))
    return wirings


def _left_out(subject: str, parameter: str, callers: _ByCaller) -> Iterator[Cause]:
    passing = {
        caller: pairs for caller, pairs in callers.items() if _passes(pairs, parameter=parameter)
    }
    if not passing:
        return
    for caller, pairs in callers.items():
        if caller == SCENARIO_CALLER or any(given for _, _, given in pairs):
            continue
        yield _disagreement(
            subject,
            parameter,
            caller=caller,
            pairs=pairs,
            before=_sibling_value(passing, pairs=pairs),
            message=f"{caller} leaves {parameter} of {subject} out; "
            f"{_list_callers(passing)} {'passes' if len(passing) == 1 else 'pass'} it.",
        )


def _constant_beside_fields(
    subject: str, parameter: str, callers: _ByCaller, *, known: Mapping[str, Fields]
) -> Iterator[Cause]:
    sources = {
        caller: sources_of([(seen, value) for seen, value, _ in pairs], known=known)
        for caller, pairs in callers.items()
        if caller != SCENARIO_CALLER
    }
    from_fields = {caller: names for caller, names in sources.items() if is_field(names[0])}
    for caller, names in sources.items():
        given = any(given for _, _, given in callers[caller])
        others = {other: from_fields[other] for other in from_fields if other != caller}
        if not is_literal(names[0]) or not given or not others:
            continue
        yield _disagreement(
            subject,
            parameter,
            caller=caller,
            pairs=callers[caller],
            before=sorted({name for fields in others.values() for name in fields}),
            message=f"{caller} always passes {names[0].removeprefix('constant ')} as {parameter} "
            f"of {subject}; {_list_callers({other: callers[other] for other in others})} "
            f"{'takes' if len(others) == 1 else 'take'} it from {_list_fields(others)}.",
        )


def _passes(pairs: _Pairs, *, parameter: str) -> bool:
    """Tell whether a function passes an argument: gives it, and not always the default."""
    return any(
        given
        and (
            parameter not in seen.defaults
            or encode_value(value) != encode_value(seen.defaults[parameter])
        )
        for seen, value, given in pairs
    )


def _sibling_value(passing: _ByCaller, *, pairs: _Pairs) -> Any:  # noqa: ANN401 - any encoded value
    """Return a value that a sibling passes and that is not what this one gets instead."""
    own = {encode_value(value) for _, value, _ in pairs}
    values = [value for group in passing.values() for _, value, given in group if given]
    return next((value for value in values if encode_value(value) not in own), values[0])


def _disagreement(
    subject: str, parameter: str, *, caller: str, pairs: _Pairs, before: object, message: str
) -> Cause:
    places = [seen.location for seen, _, _ in pairs if seen.location is not None]
    return Cause(
        kind=Kind.SIBLING_DISAGREEMENT,
        rank=finding_rank(Kind.SIBLING_DISAGREEMENT),
        where=f"{caller} -> {subject}.{parameter}",
        message=message,
        builder=caller,
        callee=subject,
        parameter=parameter,
        before=before,
        after=pairs[0][1],
        location=places[0] if places else None,
        scenarios=tuple(sorted({seen.scenario for seen, _, _ in pairs})),
    )


def _list_callers(callers: _ByCaller) -> str:
    *first, last = (_with_line(caller, callers[caller]) for caller in callers)
    return f"{', '.join(first)} and {last}" if first else last


def _with_line(caller: str, pairs: _Pairs) -> str:
    if caller == SCENARIO_CALLER:
        return caller
    place: Location | None = next((seen.location for seen, _, _ in pairs if seen.location), None)
    return caller if place is None else f"{caller} ({place.file}:{place.line})"


def _list_fields(others: Mapping[str, tuple[str, ...]]) -> str:
    return ", ".join(sorted({name for fields in others.values() for name in fields}))
