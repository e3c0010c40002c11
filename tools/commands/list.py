"""The ``list`` command: show scenarios by builder, and builders that no scenario runs."""

import json
from typing import Annotated, Any, TypeAlias

import typer

from tools import options
from tools.console import print_status
from tools.gate.audit import known_findings
from tools.goldens.golden_set import count_coverage, read_golden_set
from tools.report.coverage import cells_json, cells_text
from tools.session import Session
from tools.workers.protocol import ListBuilders, ListDefaults
from traces.audit.assembly_calls import assembly_calls, without_refusals
from traces.audit.coverage import CoverageCell, coverage_matrix
from traces.schema.model import Recording, Sites
from traces.targets.common.scenario import Scenario
from traces.text.phrases import pluralise

_SHOWN_PARTS = ("stack", "attach", "controller")

ParametersOption: TypeAlias = Annotated[
    bool, typer.Option("--parameters", help="Show how the goldens cover the parameters, too.")
]


def list_scenarios(
    context: typer.Context,
    *,
    side: options.SideOption = None,
    target: options.TargetOption = "native",
    python: options.PythonOption = None,
    as_json: options.JsonOption = False,
    with_parameters: ParametersOption = False,
) -> None:
    """Show scenarios by builder, and the builders of a side that no scenario runs.

    With --parameters also how the goldens cover every parameter of a builder, of a function that
    attaches a stack, and of a controller. A value is distinctive when dropping it, or passing
    another argument in its place, would show.
    """
    if with_parameters:
        options.require_native(target)
    session = options.start_session(context, target=target)
    parsed = options.parse_code_side(session, side, option="--side", python=python)
    cells: tuple[CoverageCell, ...] = ()
    with session.open_side(parsed) as opened:
        builders = opened.pool.call(ListBuilders())
        if with_parameters:
            cells = _covered(session, opened.pool.call(ListDefaults()))
    counts = count_coverage(builders, registry=session.builders)
    scenarios = list(session.scenarios.values())
    if as_json:
        found = _scenarios_json(target, scenarios=scenarios, counts=counts)
        if with_parameters:
            found["parameters"] = cells_json(cells)
        print(json.dumps(found, indent=2))
    else:
        print(_scenarios_text(target, scenarios=scenarios, counts=counts))
        if with_parameters:
            print(f"\n{cells_text(cells, reasons=known_findings(session))}")


def _covered(session: Session, defaults: dict[str, dict[str, Any]]) -> tuple[CoverageCell, ...]:
    """Return the parameters of what assembles a stack, as the goldens have them."""
    goldens = read_golden_set(session.golden_folder, names=session.scenarios)
    for problem in goldens.problems.values():
        print_status(problem)
    sites = Sites(calls={}, definitions={}, events=(), defaults=defaults)
    recordings = {
        name: Recording(trace=one.trace, sites=sites)
        for name, one in without_refusals(goldens.recordings).items()
    }
    shown = {
        seen.call.callee for seen in assembly_calls(recordings) if seen.call.part in _SHOWN_PARTS
    }
    return tuple(cell for cell in coverage_matrix(recordings) if cell.callee in shown)


def _scenarios_json(
    target: str, *, scenarios: list[Scenario], counts: dict[str, int]
) -> dict[str, object]:
    return {
        "target": target,
        "scenarios": [
            {"name": scenario.name, "builder": scenario.builder, "config": scenario.config}
            for scenario in scenarios
        ],
        "builders": [{"name": name, "scenarios": number} for name, number in counts.items()],
        "uncovered": [name for name, number in counts.items() if number == 0],
    }


def _scenarios_text(target: str, *, scenarios: list[Scenario], counts: dict[str, int]) -> str:
    lines = [
        f"{target}: {pluralise(len(scenarios), 'scenario')}, {pluralise(len(counts), 'builder')}"
    ]
    # A scenario may also run an entry point that is no builder by name, such as a cache's method.
    for builder in dict.fromkeys([*counts, *(scenario.builder for scenario in scenarios)]):
        names = [scenario.name for scenario in scenarios if scenario.builder == builder]
        uncovered = "" if names else ", UNCOVERED"
        lines += ["", f"{builder}: {pluralise(len(names), 'scenario')}{uncovered}"]
        lines += [f"  {name}" for name in names]
    return "\n".join(lines)
