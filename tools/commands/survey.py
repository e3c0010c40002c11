"""The ``survey`` command: compare releases step by step."""

import json
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from tools import options
from tools.console import print_duration
from tools.errors import ToolError
from tools.releases.survey import (
    KNOWN_CHANGES_PATH,
    UNEXPLAINED,
    KnownChangesFile,
    compare_in_order,
    explain_cause,
    read_toml,
    run_surveyed_side,
)
from tools.releases.tables import builders_table, steps_table, survey_json

SidesArgument: TypeAlias = Annotated[list[str], typer.Argument(metavar="SIDE...", help="In order.")]
ScenarioOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--scenario", metavar="NAME", help="Run only these; may be repeated."),
]
KnownChangesOption: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--known",
        metavar="FILE",
        help="What is known of steps between sides.",
        show_default="that of releases",
    ),
]


def survey(
    context: typer.Context,
    sides: SidesArgument,
    *,
    only: ScenarioOption = None,
    known_changes: KnownChangesOption = KNOWN_CHANGES_PATH,
    target: options.TargetOption = "sglang",
    python: options.PythonOption = None,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    timeout: options.TimeoutOption = options.DEFAULT_LIMIT_SECONDS,
) -> None:
    """Compare every side with the one before it, and list which builders each side has.

    Prints Markdown tables: every cause that changes behaviour, step by step, with what is known of
    it; then builders against sides. Exit code 1 when a cause is not explained.
    """
    if len(sides) < 2 or len(set(sides)) < len(sides):
        expected = "at least two, each once"
        raise ToolError("survey", "must have steps", expected=expected, got=" ".join(sides))
    rule = "must say what is known"
    known = read_toml(known_changes, KnownChangesFile, rule=rule, holds="changes").change
    session = options.start_session(context, target=target, limit_seconds=timeout)
    scenarios = session.select(only).scenarios
    # A word that is no side is refused before the others are run.
    parsed = [
        options.parse_code_side(session, side, option="SIDE", python=python) for side in sides
    ]
    used_device = options.parse_device(device)
    with print_duration():
        results = {
            side.text: run_surveyed_side(session, side, scenarios=scenarios, device=used_device)
            for side in parsed
        }
        steps = list(compare_in_order(results, target=target))
    if as_json:
        print(json.dumps(survey_json(results, steps), indent=2))
    else:
        print(steps_table(steps, known=known))
        print(builders_table(results))
    unexplained = any(
        explain_cause(step, cause, known=known)[0] == UNEXPLAINED
        for step in steps
        for cause in step.causes
    )
    raise typer.Exit(int(unexplained))
