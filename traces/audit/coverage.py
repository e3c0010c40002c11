"""Parameter coverage: the arguments whose faults the scenarios would show.

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

_Passed = tuple[AssemblyCall, Argument]


class CoverageState(StrEnum):
    """Coverage of one parameter by the scenarios, the last member is the best."""

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
        state: the best of any call.
        value: the value with that state.
        value_num: number of different values.
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
    cells: dict[str, dict[str, list[_Passed]]] = {}
    for seen in assembly_calls(recordings):
        for item in seen.call.arguments:
            cells.setdefault(seen.call.callee, {}).setdefault(item.name, []).append((seen, item))
    return tuple(
        _cell(parameter, pairs)
        for _, parameters in sorted(cells.items())
        for parameter, pairs in parameters.items()
    )


def blind_spots(recordings: Recordings) -> tuple[Cause, ...]:
    """Return one finding for each parameter that no scenario gives a distinctive value."""
    return tuple(
        Cause(
            kind=Kind.PARAMETER_BLIND_SPOT,
            rank=finding_rank(Kind.PARAMETER_BLIND_SPOT),
            where=f"{cell.callee}.{cell.parameter}",
            message=f"{cell.parameter} of {cell.callee} {_shortcoming(cell)}: "
            "a wrong one would not show.",
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


def _cell(parameter: str, pairs: Sequence[_Passed]) -> CoverageCell:
    values = {encode_value(item.value) for _, item in pairs}
    default = _default(pairs)
    graded = [
        (_state(item, seen=seen, default=default, value_num=len(values)), item.value)
        for seen, item in pairs
    ]
    state, value = max(graded, key=lambda grade: list(CoverageState).index(grade[0]))
    return CoverageCell(
        callee=pairs[0][0].call.callee,
        parameter=parameter,
        state=state,
        value=value,
        value_num=len(values),
        scenarios=tuple(sorted({seen.scenario for seen, _ in pairs})),
        location=next((seen.location for seen, _ in pairs if seen.location), None),
    )


def _default(pairs: Sequence[_Passed]) -> bytes | None:
    """Return the value that leaving the parameter out means; None where that is not allowed."""
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
    else:
        others = (other for other in seen.call.arguments if other.name != item.name)
        is_enough = value not in {encode_value(other.value) for other in others}
    return CoverageState.DISTINCTIVE if is_enough else CoverageState.NON_DEFAULT


def _shortcoming(cell: CoverageCell) -> str:
    if cell.state is CoverageState.NEVER_SET:
        return "is never given"
    if cell.state is CoverageState.DEFAULT_ONLY:
        return "only ever gets its default"
    if cell.value_num == 1:
        return "has one value in every scenario"
    return "always has the value of another argument"
