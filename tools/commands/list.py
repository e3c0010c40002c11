"""The ``list`` command: show scenarios by builder, and builders that no scenario runs."""

import json

import typer

from tools import options
from tools.goldens.golden_set import count_coverage
from tools.workers.protocol import ListBuilders
from traces.targets.common.scenario import Scenario
from traces.text.phrases import pluralise


def list_scenarios(
    context: typer.Context,
    *,
    side: options.SideOption = None,
    target: options.TargetOption = "native",
    python: options.PythonOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show scenarios by builder, and the builders of a side that no scenario runs."""
    session = options.start_session(context, target=target)
    parsed = options.parse_code_side(session, side, option="--side", python=python)
    with session.open_side(parsed) as opened:
        builders = opened.pool.call(ListBuilders())
    counts = count_coverage(builders, registry=session.builders)
    scenarios = list(session.scenarios.values())
    if as_json:
        print(json.dumps(_scenarios_json(target, scenarios=scenarios, counts=counts), indent=2))
    else:
        print(_scenarios_text(target, scenarios=scenarios, counts=counts))


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
