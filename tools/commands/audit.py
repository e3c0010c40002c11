"""The ``audit`` command: find faults of one side without a golden or a second side."""

import json
from typing import Annotated, TypeAlias

import typer

from tools import options
from tools.console import print_duration, print_status
from tools.gate.audit import SideAudit, audit_side, run_for_audit, write_lineage
from tools.report.coverage import cells_json, cells_text
from tools.report.output import Output, report_verdict
from tools.report.render import Format
from tools.sides.parse import Side
from tools.sides.results import SideResults
from traces.audit.coverage import CoverageCell, coverage_matrix
from traces.audit.finding import finding_key
from traces.audit.judgement import is_coverage
from traces.schema.verdict import Verdict

SCHEMA = "goldentrace.coverage/1"

MatrixOption: TypeAlias = Annotated[
    bool, typer.Option("--matrix", help="Print builders and their parameters, and no verdict.")
]
LineageOption: TypeAlias = Annotated[
    bool,
    typer.Option("--write-lineage", help="Write the file that records where arguments come from."),
]
CoverageOption: TypeAlias = Annotated[
    bool,
    typer.Option("--coverage", help="Print what our scenarios do not cover, and no verdict."),
]
BaselineOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--baseline", help="pypi:VERSION that a source tree derives from."),
]
KeysOption: TypeAlias = Annotated[
    bool, typer.Option("--keys", help="Print the baseline keys of the findings to stderr.")
]


def audit(
    context: typer.Context,
    *,
    side: options.SideOption = None,
    target: options.TargetOption = "native",
    python: options.PythonOption = None,
    device: options.DeviceOption = "auto",
    form: options.FormatOption = Format.TEXT,
    files: options.OutputFilesOption = None,
    quiet: options.QuietOption = False,
    timeout: options.TimeoutOption = options.DEFAULT_LIMIT_SECONDS,
    show_matrix: MatrixOption = False,
    show_coverage: CoverageOption = False,
    baseline: BaselineOption = None,
    show_keys: KeysOption = False,
    lineage: LineageOption = False,
) -> None:
    """Find faults of one side without a golden or another version.

    Rows that a load does not bring back, transfers of other bytes than the rows have, reads that
    wait for nothing, functions that leave out what their siblings pass, arguments that come from
    elsewhere than on file, and parameters that no scenario would miss. Findings with a reason in
    the target's baseline are known; of a tree that derives from a release only new ones are shown.
    """
    if lineage:
        options.require_native(target)
    session = options.start_session(context, target=target, limit_seconds=timeout)
    release = "" if baseline is None else options.parse_baseline(session, baseline)

    def run() -> tuple[Side, SideResults]:
        parsed = options.parse_code_side(session, side, option="--side", python=python)
        return parsed, run_for_audit(session, parsed, device=options.parse_device(device))

    def judge() -> tuple[Verdict, tuple[str, ...]]:
        audited = audit_side(session, *run(), release=release)
        keys = [str(finding_key(cause)) for cause in audited.findings] if show_keys else []
        return audited.verdict, (*audited.notes, *keys)

    with print_duration():
        if show_matrix:
            _print_matrix(coverage_matrix(run()[1].recordings), form=form)
            return
        if show_coverage:
            _print_coverage(audit_side(session, *run(), release=release), form=form)
            return
        if lineage:
            print_status(f"written: {write_lineage(session, run()[1])}")
            return
        code = report_verdict(
            judge,
            output=Output(
                form=form,
                strict=False,
                quiet=quiet,
                files=tuple(files or ()),
                root=options.kept_root(session, side),
            ),
            target=target,
        )
    raise typer.Exit(code)


def _print_coverage(audited: SideAudit, *, form: Format) -> None:
    findings = audited.coverage or tuple(
        cause for cause in audited.verdict.causes if is_coverage(cause)
    )
    if form is Format.JSON:
        found = [{"kind": one.kind, "where": one.where, "message": one.message} for one in findings]
        print(json.dumps({"schema": SCHEMA, "findings": found}, indent=2))
        return
    for cause in findings:
        print(f"{cause.kind}  {cause.where}")
    print(f"{len(findings)} in all")


def _print_matrix(cells: tuple[CoverageCell, ...], *, form: Format) -> None:
    if form is Format.JSON:
        print(json.dumps({"schema": SCHEMA, "cells": cells_json(cells)}, indent=2))
    else:
        print(cells_text(cells, reasons={}))
