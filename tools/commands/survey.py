"""``survey`` and ``run_backtest``: what the net says of many releases at once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import typer

from tools.console import print_duration, print_status
from tools.errors import ToolError
from tools.goldens.files import select_scenarios
from tools.options import (
    DEFAULT_LIMIT_SECONDS,
    DeviceOption,
    JsonOption,
    PythonOption,
    TargetOption,
    TimeoutOption,
    parse_interpreter,
    session_factory,
)
from tools.releases.backtest import CATALOGUE_PATH, BacktestResult, read_catalogue, run_backtest
from tools.releases.survey import (
    KNOWN_CHANGES_PATH,
    UNEXPLAINED,
    KnownChange,
    ReleaseStep,
    SurveyRun,
    compare_in_order,
    explain_cause,
    read_known_changes,
    run_surveyed_side,
    tabulate_coverage,
)
from tools.report.tables import markdown_table
from tools.session import Session, parse_device
from tools.sides.parse import parse_side
from tools.sides.targets import find_target, load_aliases

SidesArgument: TypeAlias = Annotated[list[str], typer.Argument(metavar="SIDE...", help="In order.")]
ScenarioOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--scenario", metavar="NAME", help="Play only these; may be repeated."),
]
FaultsArgument: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="CASE", help="Faults; all when none is named.")
]
KnownChangesOption: TypeAlias = Annotated[
    Path, typer.Option("--known", metavar="FILE", help="What is known of steps between sides.")
]
CatalogueOption: TypeAlias = Annotated[
    Path, typer.Option("--catalogue", metavar="FILE", help="Faults with good and bad sides.")
]


def survey(
    context: typer.Context,
    sides: SidesArgument,
    *,
    only: ScenarioOption = None,
    known_changes: KnownChangesOption = KNOWN_CHANGES_PATH,
    target: TargetOption = "sglang",
    python: PythonOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_LIMIT_SECONDS,
) -> None:
    """Compare every side with the one before it, and list which builders each side has.

    Prints Markdown tables: every cause that changes behaviour, step by step, with what is known of
    it; then builders against sides. Exit code 1 when a cause is not explained.
    """
    if len(sides) < 2 or len(set(sides)) < len(sides):
        expected = "at least two, each once"
        raise ToolError("survey", "must have steps", expected=expected, got=" ".join(sides))
    known = read_known_changes(known_changes)
    desk = session_factory(context)(target=target, limit_seconds=timeout)
    scenarios = [
        desk.scenarios[name] for name in select_scenarios(only or [], known=desk.scenarios)
    ]
    for side in sides:
        # A word that is no side is refused before the others have been played.
        parse_side(side, root=desk.root, target=target)
    with print_duration():
        played: dict[str, SurveyRun] = {}
        for side in sides:
            played[side] = run_surveyed_side(
                desk,
                side,
                scenarios=scenarios,
                device=parse_device(device),
                python=parse_interpreter(python, target=target),
            )
            print_status(
                f"{side}: {len(played[side].recordings)} played in {played[side].seconds:.1f} s"
            )
        found = list(compare_in_order(played, target=target))
    if as_json:
        print(json.dumps(_survey_json(played, found), indent=2))
    else:
        print(steps_table(found, known=known))
        print(builders_table(played))
    unexplained = [
        cause
        for step in found
        for cause in step.causes
        if explain_cause(step, cause, known=known)[0] == UNEXPLAINED
    ]
    raise typer.Exit(int(bool(unexplained)))


def backtest_catalogue(
    context: typer.Context,
    cases: FaultsArgument = None,
    *,
    catalogue: CatalogueOption = CATALOGUE_PATH,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    timeout: TimeoutOption = DEFAULT_LIMIT_SECONDS,
) -> None:
    """Play known faults again: would the gate between good and bad side, or an audit, show them?

    Exit code 0 when every fault that can be played is caught, 1 when one is missed.
    """
    known = read_catalogue(catalogue)
    faults = {fault.id: fault for fault in known.case}
    unknown = [case for case in cases or [] if case not in faults]
    if unknown:
        raise ToolError(
            unknown[0], "must be in the catalogue", expected=", ".join(faults), got=unknown[0]
        )
    desk = session_factory(context)(target=known.target, limit_seconds=timeout)

    def played(side: str) -> SurveyRun:
        return _run_whole_side(desk, side, device=parse_device(device))

    with print_duration():
        wanted = [faults[case] for case in cases or faults]
        findings = list(
            run_backtest(wanted, play_side=played, aliases=load_aliases(find_target(known.target)))
        )
    if as_json:
        print(json.dumps([_result_json(finding) for finding in findings], indent=2))
    else:
        print(findings_table(findings))
    raise typer.Exit(int(any(finding.result == "missed" for finding in findings)))


def _run_whole_side(session: Session, side: str, *, device: str) -> SurveyRun:
    scenarios = list(session.scenarios.values())
    played = run_surveyed_side(session, side, scenarios=scenarios, device=device, python=None)
    print_status(f"{side}: {len(played.recordings)} played in {played.seconds:.1f} s")
    return played


def steps_table(found: Sequence[ReleaseStep], *, known: Sequence[KnownChange]) -> str:
    """Return every cause of every step with what is known of it, as Markdown."""
    rows = []
    for step in found:
        name = f"{step.base} to {step.head}"
        for cause in step.causes:
            what, reason = explain_cause(step, cause, known=known)
            rows.append((name, cause.headline(), what, reason))
        if not step.causes:
            rows.append((name, f"none in {step.scenarios} scenarios", "-", ""))
    return markdown_table(("step", "cause", "what it is", "why"), rows)


def builders_table(played: Mapping[str, SurveyRun]) -> str:
    """Return which side has which builder, and whether a scenario reaches it, as Markdown."""
    table = tabulate_coverage(played)
    rows = [(name, *(row[side] for side in played)) for name, row in table.items()]
    return markdown_table(("builder or strategy", *played), rows)


def findings_table(findings: Sequence[BacktestResult]) -> str:
    """Return what gate and audit say of every fault, as Markdown."""
    rows = [
        (
            finding.fault.id,
            finding.fault.good,
            finding.fault.bad,
            finding.gate,
            _cause_position(finding),
            f"{finding.shown} {finding.location}".strip(),
            finding.audit or "-",
            finding.result,
            f"{finding.seconds:.0f}",
        )
        for finding in findings
    ]
    head = ("case", "good", "bad", "gate", "first cause", "cause or reason", "audit of bad side")
    return "\n".join(
        (
            markdown_table((*head, "together", "seconds"), rows),
            markdown_table(*_totals_table(findings)),
        )
    )


def _totals_table(
    findings: Sequence[BacktestResult],
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return head and row of a table: how many faults are caught by what."""
    by_gate = sum(finding.gate == "caught" for finding in findings)
    by_audit = sum(bool(finding.audit) for finding in findings)
    together = sum(finding.result == "caught" for finding in findings)
    head = (f"of {len(findings)} faults", "gate", "audit of the bad side alone", "together")
    return head, [("caught", str(by_gate), str(by_audit), str(together))]


def _cause_position(finding: BacktestResult) -> str:
    if finding.gate != "caught":
        return "-"
    return "yes" if finding.is_first else f"no, {finding.place + 1} of {finding.causes}"


def _result_json(finding: BacktestResult) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(asdict(finding))
    return {**plain, "fault": finding.fault.id}


def _survey_json(played: Mapping[str, SurveyRun], found: Sequence[ReleaseStep]) -> dict[str, Any]:
    return {
        "steps": [msgspec.to_builtins(asdict(step)) for step in found],
        "builders": tabulate_coverage(played),
        "unplayable": {side: dict(one.unplayable) for side, one in played.items()},
        "seconds": {side: one.seconds for side, one in played.items()},
    }
