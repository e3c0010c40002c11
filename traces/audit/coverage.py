"""Parameter coverage: which arguments the scenarios would notice if they went wrong.

The matrix has one cell for each parameter of each builder and constructor. A value is *distinctive*
when it is neither the callee's default nor the value of another argument of the same call: dropping
it, swapping it and replacing it by a sibling's all show. Flags, callbacks and None cannot be
unlike every other argument; for those any value that is not the default is enough, and where there
is no default two different values must have been seen, since with one alone a constant in its place
would go unnoticed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from traces.audit.assembly_calls import (
    AssemblyCall,
    Recordings,
    assembly_calls,
    encode_value,
    has_few_values,
)
from traces.audit.finding import finding_rank
from traces.schema.model import Argument, Location
from traces.schema.verdict import Cause, Kind


class CoverageState(StrEnum):
    """How much the scenarios ask of one parameter; the last is the best."""

    NEVER_SET = "never set"
    DEFAULT_ONLY = "default only"
    NON_DEFAULT = "non-default"
    DISTINCTIVE = "distinctive"


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageCell:
    """One parameter over all scenarios.

    Attributes:
        callee: builder or constructor.
        parameter: its name.
        state: the best that any call does.
        value: the most telling value that was seen.
        value_num: how many different values were seen.
        scenarios: that call the callee.
        location: first line that calls it.
    """

    callee: str
    parameter: str
    state: CoverageState
    value: Any
    value_num: int
    scenarios: tuple[str, ...]
    location: Location | None


def coverage_matrix(recordings: Recordings) -> tuple[CoverageCell, ...]:
    """Return one cell for each parameter of each callee, in order of callee and signature."""
    by_callee: dict[str, list[AssemblyCall]] = {}
    for seen in assembly_calls(recordings):
        by_callee.setdefault(seen.call.callee, []).append(seen)
    return tuple(
        _cell(callee, parameter, calls)
        for callee, calls in sorted(by_callee.items())
        for parameter in _parameters(calls)
    )


def blind_spots(recordings: Recordings) -> tuple[Cause, ...]:
    """Return one finding for each parameter that no scenario gives a distinctive value."""
    return tuple(
        Cause(
            kind=Kind.PARAMETER_BLIND_SPOT,
            rank=finding_rank(Kind.PARAMETER_BLIND_SPOT),
            where=f"{cell.callee}.{cell.parameter}",
            message=_message(cell),
            callee=cell.callee,
            parameter=cell.parameter,
            before=CoverageState.DISTINCTIVE,
            after=cell.state,
            location=cell.location,
            scenarios=cell.scenarios,
        )
        for cell in coverage_matrix(recordings)
        if cell.state is not CoverageState.DISTINCTIVE
    )


def _parameters(calls: Sequence[AssemblyCall]) -> list[str]:
    return list(dict.fromkeys(item.name for seen in calls for item in seen.call.arguments))


def _cell(callee: str, parameter: str, calls: Sequence[AssemblyCall]) -> CoverageCell:
    pairs = [
        (seen, item) for seen in calls for item in seen.call.arguments if item.name == parameter
    ]
    values = {encode_value(item.value) for _, item in pairs}
    default = _default(pairs)
    graded = [
        (_state(item, seen=seen, default=default, value_num=len(values)), item.value)
        for seen, item in pairs
    ]
    state, value = max(graded, key=lambda grade: list(CoverageState).index(grade[0]))
    places = [seen.location for seen, _ in pairs if seen.location is not None]
    return CoverageCell(
        callee=callee,
        parameter=parameter,
        state=state,
        value=value,
        value_num=len(values),
        scenarios=tuple(sorted({seen.scenario for seen, _ in pairs})),
        location=places[0] if places else None,
    )


def _default(pairs: Sequence[tuple[AssemblyCall, Argument]]) -> bytes | None:
    """Return what leaving the parameter out means; None where that is not allowed."""
    for seen, item in pairs:
        if item.name in seen.defaults:
            return encode_value(seen.defaults[item.name])
        if not item.given:
            return encode_value(item.value)
    return None


def _state(
    item: Argument, *, seen: AssemblyCall, default: bytes | None, value_num: int
) -> CoverageState:
    value = encode_value(item.value)
    if value == default:
        return CoverageState.DEFAULT_ONLY if item.given else CoverageState.NEVER_SET
    if has_few_values(item.value):
        is_enough = default is not None or value_num > 1
        return CoverageState.DISTINCTIVE if is_enough else CoverageState.NON_DEFAULT
    others = {encode_value(other.value) for other in seen.call.arguments if other.name != item.name}
    return CoverageState.NON_DEFAULT if value in others else CoverageState.DISTINCTIVE


def _message(cell: CoverageCell) -> str:
    told = {
        CoverageState.NEVER_SET: "is never given",
        CoverageState.DEFAULT_ONLY: "only ever gets its default",
        CoverageState.NON_DEFAULT: "has one value in every scenario"
        if cell.value_num == 1
        else "always has the value of another argument",
        CoverageState.DISTINCTIVE: "is distinctive",
    }
    return f"{cell.parameter} of {cell.callee} {told[cell.state]}: a wrong one would not show."
