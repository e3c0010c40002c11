"""``survey`` and ``backtest``: what the net says of many releases at once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import typer

from tools.backtest import CATALOGUE, Finding, backtest, read_catalogue
from tools.desk import Desk, known_device
from tools.errors import ToolError
from tools.formats.tables import markdown_table
from tools.goldens import chosen
from tools.options import (
    DEFAULT_LIMIT_SECONDS,
    AsJson,
    DeviceOption,
    Limit,
    Python,
    Target,
    interpreter,
    opener,
)
from tools.output import say, timed
from tools.survey import Played, Step, coverage_table, play_side, steps
from tools.targets import aliases_of, known_target

Sides: TypeAlias = Annotated[list[str], typer.Argument(metavar="SIDE...", help="In order.")]
Only: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--scenario", metavar="NAME", help="Play only these; may be repeated."),
]
Cases: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="CASE", help="Faults; all when none is named.")
]
CatalogueOption: TypeAlias = Annotated[
    Path, typer.Option("--catalogue", metavar="FILE", help="Faults with good and bad sides.")
]


def survey(
    context: typer.Context,
    sides: Sides,
    *,
    only: Only = None,
    target: Target = "sglang",
    python: Python = None,
    device: DeviceOption = "auto",
    as_json: AsJson = False,
    timeout: Limit = DEFAULT_LIMIT_SECONDS,
) -> None:
    """Compare every side with the one before it, and list which builders each side has.

    Prints Markdown tables: every cause that changes behaviour, step by step; then builders against
    sides. Exit code 0 means that all was played: what changed between releases is no failure.
    """
    desk = opener(context)(target=target, limit_seconds=timeout)
    scenarios = [desk.scenarios[name] for name in chosen(only or [], known=desk.scenarios)]
    with timed():
        played: dict[str, Played] = {}
        for side in sides:
            played[side] = play_side(
                desk,
                side,
                scenarios=scenarios,
                device=known_device(device),
                python=interpreter(python, target=target),
            )
            say(f"{side}: {len(played[side].recordings)} played in {played[side].seconds:.1f} s")
        found = list(steps(played, target=target))
    if as_json:
        print(json.dumps(_as_plain(played, found), indent=2))
        return
    print(_steps_table(found))
    print(_coverage(played))


def backtest_catalogue(
    context: typer.Context,
    cases: Cases = None,
    *,
    catalogue: CatalogueOption = CATALOGUE,
    device: DeviceOption = "auto",
    as_json: AsJson = False,
    timeout: Limit = DEFAULT_LIMIT_SECONDS,
) -> None:
    """Play known faults again: would the gate between the good and the bad side show them?

    Exit code 0 when every fault that can be played is caught, 1 when one is missed.
    """
    known = read_catalogue(catalogue)
    faults = {fault.id: fault for fault in known.case}
    unknown = [case for case in cases or [] if case not in faults]
    if unknown:
        raise ToolError(
            unknown[0], "must be in the catalogue", expected=", ".join(faults), got=unknown[0]
        )
    desk = opener(context)(target=known.target, limit_seconds=timeout)

    def played(side: str) -> Played:
        return _whole_side(desk, side, device=known_device(device))

    with timed():
        wanted = [faults[case] for case in cases or faults]
        findings = list(
            backtest(wanted, play_side=played, aliases=aliases_of(known_target(known.target)))
        )
    if as_json:
        print(json.dumps([_plain_finding(finding) for finding in findings], indent=2))
    else:
        print(_findings_table(findings))
    raise typer.Exit(int(any(finding.result == "missed" for finding in findings)))


def _whole_side(desk: Desk, side: str, *, device: str) -> Played:
    scenarios = list(desk.scenarios.values())
    played = play_side(desk, side, scenarios=scenarios, device=device, python=None)
    say(f"{side}: {len(played.recordings)} played in {played.seconds:.1f} s")
    return played


def _steps_table(found: Sequence[Step]) -> str:
    rows = [
        (
            f"{step.base} to {step.head}",
            str(step.scenarios),
            str(cause.kind),
            cause.headline(),
            str(len(cause.scenarios)),
        )
        for step in found
        for cause in step.causes
    ]
    quiet = [
        (f"{step.base} to {step.head}", str(step.scenarios), "-", "no cause", "0")
        for step in found
        if not step.causes
    ]
    return markdown_table(("step", "compared", "kind", "cause", "scenarios"), [*rows, *quiet])


def _coverage(played: Mapping[str, Played]) -> str:
    table = coverage_table(played)
    rows = [(name, *(row[side] for side in played)) for name, row in table.items()]
    return markdown_table(("builder or strategy", *played), rows)


def _findings_table(findings: Sequence[Finding]) -> str:
    rows = [
        (
            finding.fault.id,
            finding.fault.good,
            finding.fault.bad,
            finding.result,
            "yes"
            if finding.is_first
            else f"no, {finding.place + 1} of {finding.causes}"
            if finding.result == "caught"
            else "-",
            f"{finding.seconds:.0f}",
            f"{finding.shown} {finding.location}".strip(),
        )
        for finding in findings
    ]
    return markdown_table(
        ("case", "good", "bad", "result", "first cause", "seconds", "cause"), rows
    )


def _plain_finding(finding: Finding) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(asdict(finding))
    return {**plain, "fault": finding.fault.id}


def _as_plain(played: Mapping[str, Played], found: Sequence[Step]) -> dict[str, Any]:
    return {
        "steps": [msgspec.to_builtins(asdict(step)) for step in found],
        "builders": coverage_table(played),
        "unplayable": {side: dict(one.unplayable) for side, one in played.items()},
        "seconds": {side: one.seconds for side, one in played.items()},
    }
