"""``list``: what there is to play, and what nothing plays."""

import json

import typer

from tools.formats.words import counted
from tools.inventory import coverage
from tools.options import (
    DEFAULT_LIMIT_SECONDS,
    AsJson,
    Python,
    SideOption,
    Target,
    interpreter,
    opener,
    side_or,
)
from traces.scenarios import Scenario


def list_scenarios(
    context: typer.Context,
    *,
    side: SideOption = None,
    target: Target = "native",
    python: Python = None,
    as_json: AsJson = False,
) -> None:
    """Show scenarios by builder, and what nothing plays of the builders that a side has."""
    desk = opener(context)(target=target, limit_seconds=DEFAULT_LIMIT_SECONDS)
    named = side_or("worktree", side, option="--side", target=target)
    with desk.troupe_of(named, python=interpreter(python, target=target)) as troupe:
        found = troupe.builders()
    counts = coverage(found, registry=desk.builders)
    scenarios = list(desk.scenarios.values())
    if as_json:
        print(json.dumps(_listing(target, scenarios=scenarios, counts=counts), indent=2))
    else:
        print(_text(target, scenarios=scenarios, counts=counts))


def _listing(
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


def _text(target: str, *, scenarios: list[Scenario], counts: dict[str, int]) -> str:
    lines = [f"{target}: {counted(len(scenarios), 'scenario')}, {counted(len(counts), 'builder')}"]
    # A scenario may also play an entry point that is no builder by name, such as a cache's method.
    for builder in dict.fromkeys([*counts, *(scenario.builder for scenario in scenarios)]):
        names = [scenario.name for scenario in scenarios if scenario.builder == builder]
        uncovered = "" if names else ", UNCOVERED"
        lines += ["", f"{builder}: {counted(len(names), 'scenario')}{uncovered}"]
        lines += [f"  {name}" for name in names]
    return "\n".join(lines)
