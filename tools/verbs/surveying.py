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
from tools.sides import parse_side
from tools.survey import (
    KNOWN_CHANGES,
    UNKNOWN,
    Known,
    Played,
    Step,
    coverage_table,
    explained,
    play_side,
    read_known,
    steps,
)
from tools.targets import aliases_of, known_target

Sides: TypeAlias = Annotated[list[str], typer.Argument(metavar="SIDE...", help="In order.")]
Only: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--scenario", metavar="NAME", help="Play only these; may be repeated."),
]
Cases: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="CASE", help="Faults; all when none is named.")
]
KnownOption: TypeAlias = Annotated[
    Path, typer.Option("--known", metavar="FILE", help="What is known of steps between sides.")
]
CatalogueOption: TypeAlias = Annotated[
    Path, typer.Option("--catalogue", metavar="FILE", help="Faults with good and bad sides.")
]


def survey(
    context: typer.Context,
    sides: Sides,
    *,
    only: Only = None,
    known_changes: KnownOption = KNOWN_CHANGES,
    target: Target = "sglang",
    python: Python = None,
    device: DeviceOption = "auto",
    as_json: AsJson = False,
    timeout: Limit = DEFAULT_LIMIT_SECONDS,
) -> None:
    """Compare every side with the one before it, and list which builders each side has.

    Prints Markdown tables: every cause that changes behaviour, step by step, with what is known of
    it; then builders against sides. Exit code 1 when a cause is not explained.
    """
    if len(sides) < 2 or len(set(sides)) < len(sides):
        expected = "at least two, each once"
        raise ToolError("survey", "must have steps", expected=expected, got=" ".join(sides))
    known = read_known(known_changes)
    desk = opener(context)(target=target, limit_seconds=timeout)
    scenarios = [desk.scenarios[name] for name in chosen(only or [], known=desk.scenarios)]
    for side in sides:
        # A word that is no side is refused before the others have been played.
        parse_side(side, root=desk.root, target=target)
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
    else:
        print(steps_table(found, known=known))
        print(builders_table(played))
    unexplained = [
        cause
        for step in found
        for cause in step.causes
        if explained(step, cause, known=known)[0] == UNKNOWN
    ]
    raise typer.Exit(int(bool(unexplained)))


def backtest_catalogue(
    context: typer.Context,
    cases: Cases = None,
    *,
    catalogue: CatalogueOption = CATALOGUE,
    device: DeviceOption = "auto",
    as_json: AsJson = False,
    timeout: Limit = DEFAULT_LIMIT_SECONDS,
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
        print(findings_table(findings))
    raise typer.Exit(int(any(finding.result == "missed" for finding in findings)))


def _whole_side(desk: Desk, side: str, *, device: str) -> Played:
    scenarios = list(desk.scenarios.values())
    played = play_side(desk, side, scenarios=scenarios, device=device, python=None)
    say(f"{side}: {len(played.recordings)} played in {played.seconds:.1f} s")
    return played


def steps_table(found: Sequence[Step], *, known: Sequence[Known]) -> str:
    """Return every cause of every step with what is known of it, as Markdown."""
    rows = []
    for step in found:
        name = f"{step.base} to {step.head}"
        for cause in step.causes:
            what, reason = explained(step, cause, known=known)
            rows.append((name, cause.headline(), what, reason))
        if not step.causes:
            rows.append((name, f"none in {step.scenarios} scenarios", "-", ""))
    return markdown_table(("step", "cause", "what it is", "why"), rows)


def builders_table(played: Mapping[str, Played]) -> str:
    """Return which side has which builder, and whether a scenario reaches it, as Markdown."""
    table = coverage_table(played)
    rows = [(name, *(row[side] for side in played)) for name, row in table.items()]
    return markdown_table(("builder or strategy", *played), rows)


def findings_table(findings: Sequence[Finding]) -> str:
    """Return what gate and audit say of every fault, as Markdown."""
    rows = [
        (
            finding.fault.id,
            finding.fault.good,
            finding.fault.bad,
            finding.gate,
            _place(finding),
            f"{finding.shown} {finding.location}".strip(),
            finding.audit or "-",
            finding.result,
            f"{finding.seconds:.0f}",
        )
        for finding in findings
    ]
    head = ("case", "good", "bad", "gate", "first cause", "cause or reason", "audit of bad side")
    return "\n".join(
        (markdown_table((*head, "together", "seconds"), rows), markdown_table(*_sums(findings)))
    )


def _sums(findings: Sequence[Finding]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return head and row of a table: how many faults are caught by what."""
    by_gate = sum(finding.gate == "caught" for finding in findings)
    by_audit = sum(bool(finding.audit) for finding in findings)
    together = sum(finding.result == "caught" for finding in findings)
    head = (f"of {len(findings)} faults", "gate", "audit of the bad side alone", "together")
    return head, [("caught", str(by_gate), str(by_audit), str(together))]


def _place(finding: Finding) -> str:
    if finding.gate != "caught":
        return "-"
    return "yes" if finding.is_first else f"no, {finding.place + 1} of {finding.causes}"


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
