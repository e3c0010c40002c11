"""``audit``: what one side's recordings tell against it; no golden and no second side."""

import json
from typing import Annotated, TypeAlias

import typer

from tools.console import print_duration, print_status, report_verdict
from tools.gate.audit import (
    AuditRun,
    build_audit_verdict,
    finding_keys,
    run_for_audit,
    write_lineage,
)
from tools.options import (
    DEFAULT_LIMIT_SECONDS,
    DeviceOption,
    FormatOption,
    PythonOption,
    SideOption,
    TargetOption,
    TimeoutOption,
    parse_interpreter,
    require_native,
    session_factory,
    side_or_default,
)
from tools.report.render import Format
from traces.audit import CoverageCell, CoverageState, coverage_matrix
from traces.schema.verdict import Verdict

SCHEMA = "goldentrace.coverage/1"

MatrixOption: TypeAlias = Annotated[
    bool, typer.Option("--matrix", help="Print builders and their parameters, and no verdict.")
]
LineageOption: TypeAlias = Annotated[
    bool, typer.Option("--write-lineage", help="Put on file where arguments come from.")
]
KeysOption: TypeAlias = Annotated[
    bool, typer.Option("--keys", help="Say on stderr under which keys findings can be made known.")
]


def audit(
    context: typer.Context,
    *,
    side: SideOption = None,
    target: TargetOption = "native",
    python: PythonOption = None,
    device: DeviceOption = "auto",
    form: FormatOption = Format.TEXT,
    timeout: TimeoutOption = DEFAULT_LIMIT_SECONDS,
    show_matrix: MatrixOption = False,
    show_keys: KeysOption = False,
    lineage: LineageOption = False,
) -> None:
    """Find faults of one side without a golden or another version.

    Rows that a load does not bring back, transfers of other bytes than the rows have, reads that
    wait for nothing, functions that leave out what their siblings pass, arguments that come from
    elsewhere than on file, and parameters that no scenario would miss. Findings with a reason in
    the target's baseline are known.
    """
    if lineage:
        require_native(target)
    desk = session_factory(context)(target=target, limit_seconds=timeout)

    def played() -> AuditRun:
        return run_for_audit(
            desk,
            side_or_default("worktree", side, option="--side", target=target),
            python=parse_interpreter(python, target=target),
            device=device,
        )

    def judged() -> tuple[Verdict, tuple[str, ...]]:
        verdict, notes = build_audit_verdict(desk, played())
        return verdict, (*notes, *(finding_keys(verdict) if show_keys else ()))

    with print_duration():
        if show_matrix:
            _print_matrix(coverage_matrix(played().recordings), form=form)
            return
        if lineage:
            print_status(f"written: {write_lineage(desk, played())}")
            return
        code = report_verdict(judged, form=form, target=target, strict=False)
    raise typer.Exit(code)


def _print_matrix(cells: tuple[CoverageCell, ...], *, form: Format) -> None:
    if form is Format.JSON:
        print(
            json.dumps({"schema": SCHEMA, "cells": [_cell_json(cell) for cell in cells]}, indent=2)
        )
        return
    width = max((len(cell.parameter) for cell in cells), default=0)
    callee = ""
    for cell in cells:
        if cell.callee != callee:
            print(f"{'' if not callee else chr(10)}{cell.callee}")
            callee = cell.callee
        print(f"  {cell.parameter:<{width}}  {cell.state}")
    counts = ", ".join(f"{sum(c.state is state for c in cells)} {state}" for state in CoverageState)
    print(f"\n{len(cells)} parameters: {counts}")


def _cell_json(cell: CoverageCell) -> dict[str, object]:
    return {
        "callee": cell.callee,
        "parameter": cell.parameter,
        "state": cell.state,
        "value": cell.value,
        "values": cell.value_num,
        "scenarios": len(cell.scenarios),
    }
