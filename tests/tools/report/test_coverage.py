"""Coverage of parameters as text."""

from tools.report.coverage import cells_text
from traces.audit.coverage import CoverageCell, CoverageState
from traces.audit.finding import FindingKey
from traces.schema.verdict import Kind


def cell(parameter, state):
    return CoverageCell(
        callee="build",
        parameter=parameter,
        state=state,
        value=1,
        value_num=1,
        scenarios=("a",),
        location=None,
    )


def test_only_a_parameter_that_is_not_distinctive_has_a_reason():
    cells = [
        cell("one", CoverageState.DISTINCTIVE),
        cell("two", CoverageState.NON_DEFAULT),
        cell("three", CoverageState.NEVER_SET),
    ]
    reasons = {
        FindingKey(Kind.PARAMETER_BLIND_SPOT, f"build.{name}"): "it is known"
        for name in ("one", "two")
    }

    assert cells_text(cells, reasons=reasons) == (
        "build\n"
        "  one    distinctive\n"
        "  two    non-default: it is known\n"
        "  three  never set\n"
        "\n"
        "3 parameters: 1 never set, 0 default only, 1 non-default, 1 distinctive"
    )
