"""The ``backtest`` command: run known faults again and show whether gate or audit finds them."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from tools import options
from tools.console import print_duration, print_status
from tools.errors import ToolError
from tools.hunks.attribution import HunkSides, attribute_to_hunks
from tools.releases.backtest import CATALOGUE_PATH, KnownFault, read_catalogue, run_backtest
from tools.releases.survey import run_surveyed_side
from tools.releases.tables import findings_table, result_json
from tools.session import Session
from tools.sides.prepare import prepare_side
from tools.sides.results import SideResults
from tools.sides.targets import find_target, load_aliases
from traces.schema.verdict import Cause

DEFAULT_ATTRIBUTE_SECONDS = 20.0

FaultsArgument: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="CASE", help="Faults; all when none is named.")
]
AttributeTimeOption: TypeAlias = Annotated[
    float,
    typer.Option(
        "--attribute-time",
        min=0.0,
        metavar="SECONDS",
        help="Time for each caught fault to find the hunks of source that make it; 0 for none.",
    ),
]
CatalogueOption: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--catalogue",
        metavar="FILE",
        help="Faults with good and bad sides.",
        show_default="those of releases",
    ),
]


def backtest_catalogue(
    context: typer.Context,
    cases: FaultsArgument = None,
    *,
    catalogue: CatalogueOption = CATALOGUE_PATH,
    attribute_time: AttributeTimeOption = DEFAULT_ATTRIBUTE_SECONDS,
    device: options.DeviceOption = "auto",
    as_json: options.JsonOption = False,
    timeout: options.TimeoutOption = options.DEFAULT_LIMIT_SECONDS,
) -> None:
    """Run known faults again, through the gate between good and bad side and an audit.

    Exit code 0 when every fault that can be run is caught, 1 when one is missed.
    """
    known = read_catalogue(catalogue)
    faults = {fault.id: fault for fault in known.case}
    for case in cases or []:
        if case not in faults:
            expected = ", ".join(faults)
            raise ToolError(case, "must be in the catalogue", expected=expected, got=case)
    session = options.start_session(context, target=known.target, limit_seconds=timeout)
    scenarios = tuple(session.scenarios.values())
    used_device = options.parse_device(device)

    def run_side(text: str) -> SideResults:
        side = session.parse_side(text)
        return run_surveyed_side(session, side, scenarios=scenarios, device=used_device)

    attribute_causes = partial(
        _attribute_causes, session, device=used_device, seconds=attribute_time
    )
    with print_duration():
        wanted = [faults[case] for case in cases or faults]
        aliases = load_aliases(find_target(known.target))
        found = run_backtest(
            wanted,
            run_side=run_side,
            aliases=aliases,
            attribute=attribute_causes if attribute_time else None,
        )
        findings = list(found)
    if as_json:
        print(json.dumps([result_json(finding) for finding in findings], indent=2))
    else:
        print(findings_table(findings))
    raise typer.Exit(int(any(finding.result == "missed" for finding in findings)))


def _attribute_causes(
    session: Session,
    sides: tuple[KnownFault, SideResults, SideResults],
    causes: Sequence[Cause],
    *,
    device: str,
    seconds: float,
) -> Sequence[Cause]:
    """Return causes with the hunks between the sides of a fault; print notes."""
    fault, good, bad = sides
    with (
        prepare_side(session.parse_side(fault.good), root=session.root) as base,
        prepare_side(session.parse_side(fault.bad), root=session.root) as head,
    ):
        opened = HunkSides(
            target=session.target,
            base=base.launcher("", isolated=True),
            head=head.launcher("", isolated=True),
            recordings=(good.recordings, bad.recordings),
            scenarios=session.scenarios,
            device=device,
            seconds=seconds,
            limit_seconds=options.DEFAULT_LIMIT_SECONDS,
        )
        filed, notes = attribute_to_hunks(causes, opened)
    for note in notes:
        print_status(f"{fault.id}: {note}")
    return filed
