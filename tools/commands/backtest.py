"""``backtest``: runs known faults again and shows whether gate or audit would find them."""

import json
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from tools import options
from tools.console import print_duration
from tools.errors import ToolError
from tools.releases.backtest import CATALOGUE_PATH, read_catalogue, run_backtest
from tools.releases.survey import run_surveyed_side
from tools.releases.tables import findings_table, result_json
from tools.sides.results import SideResults
from tools.sides.targets import find_target, load_aliases

FaultsArgument: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="CASE", help="Faults; all when none is named.")
]
CatalogueOption: TypeAlias = Annotated[
    Path, typer.Option("--catalogue", metavar="FILE", help="Faults with good and bad sides.")
]


def backtest_catalogue(
    context: typer.Context,
    cases: FaultsArgument = None,
    *,
    catalogue: CatalogueOption = CATALOGUE_PATH,
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

    with print_duration():
        wanted = [faults[case] for case in cases or faults]
        aliases = load_aliases(find_target(known.target))
        findings = list(run_backtest(wanted, run_side=run_side, aliases=aliases))
    if as_json:
        print(json.dumps([result_json(finding) for finding in findings], indent=2))
    else:
        print(findings_table(findings))
    raise typer.Exit(int(any(finding.result == "missed" for finding in findings)))
