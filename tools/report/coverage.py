"""The coverage of parameters by scenarios, as text and as JSON."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from traces.audit.coverage import CoverageCell, CoverageState
from traces.audit.finding import FindingKey
from traces.schema.verdict import Kind


def cells_text(cells: Sequence[CoverageCell], *, reasons: Mapping[FindingKey, str]) -> str:
    """Return a block for each callee with a line for each parameter, and the sums.

    A parameter without a distinctive value has the reason of the known finding behind it.
    """
    width = max((len(cell.parameter) for cell in cells), default=0)
    blocks = [
        "\n".join([callee, *(_line(cell, width=width, reasons=reasons) for cell in of_callee)])
        for callee, of_callee in groupby(cells, key=lambda cell: cell.callee)
    ]
    counts = ", ".join(f"{sum(c.state is state for c in cells)} {state}" for state in CoverageState)
    return "\n\n".join([*blocks, f"{len(cells)} parameters: {counts}"])


def _line(cell: CoverageCell, *, width: int, reasons: Mapping[FindingKey, str]) -> str:
    key = FindingKey(Kind.PARAMETER_BLIND_SPOT, f"{cell.callee}.{cell.parameter}")
    is_known = cell.state is not CoverageState.DISTINCTIVE and key in reasons
    reason = f": {reasons[key]}" if is_known else ""
    return f"  {cell.parameter:<{width}}  {cell.state}{reason}"


def cells_json(cells: Sequence[CoverageCell]) -> list[dict[str, object]]:
    """Return the fields of each parameter."""
    return [
        {
            "callee": cell.callee,
            "parameter": cell.parameter,
            "state": cell.state,
            "value": cell.value,
            "values": cell.value_num,
            "scenarios": len(cell.scenarios),
        }
        for cell in cells
    ]
