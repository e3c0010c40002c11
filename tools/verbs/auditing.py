"""``audit``: what one side's recordings tell against it; no golden and no second side."""

import json
from typing import Annotated, TypeAlias

import typer

from tools.auditing import Played, judge_audit, keys, play_side, write_lineage
from tools.formats import Format
from tools.options import (
    DEFAULT_LIMIT_SECONDS,
    DeviceOption,
    FormatOption,
    Limit,
    Python,
    SideOption,
    Target,
    interpreter,
    opener,
    require_native,
    side_or,
)
from tools.output import ruled, say, timed
from traces.audit import Cell, State, matrix
from traces.verdict import Verdict

SCHEMA = "goldentrace.coverage/1"

Matrix: TypeAlias = Annotated[
    bool, typer.Option("--matrix", help="Print builders and their parameters, and no verdict.")
]
Lineage: TypeAlias = Annotated[
    bool, typer.Option("--write-lineage", help="Put on file where arguments come from.")
]
Keys: TypeAlias = Annotated[
    bool, typer.Option("--keys", help="Say on stderr under which keys findings can be made known.")
]


def audit(
    context: typer.Context,
    *,
    side: SideOption = None,
    target: Target = "native",
    python: Python = None,
    device: DeviceOption = "auto",
    form: FormatOption = Format.TEXT,
    timeout: Limit = DEFAULT_LIMIT_SECONDS,
    show_matrix: Matrix = False,
    show_keys: Keys = False,
    lineage: Lineage = False,
) -> None:
    """Find faults of one side without a golden or another version.

    Rows that a load does not bring back, transfers of other bytes than the rows have, reads that
    wait for nothing, functions that leave out what their siblings pass, arguments that come from
    elsewhere than on file, and parameters that no scenario would miss. Findings with a reason in
    the target's baseline are known.
    """
    if lineage:
        require_native(target)
    desk = opener(context)(target=target, limit_seconds=timeout)

    def played() -> Played:
        return play_side(
            desk,
            side_or("worktree", side, option="--side", target=target),
            python=interpreter(python, target=target),
            device=device,
        )

    def judged() -> tuple[Verdict, tuple[str, ...]]:
        verdict, notes = judge_audit(desk, played())
        return verdict, (*notes, *(keys(verdict) if show_keys else ()))

    with timed():
        if show_matrix:
            _print_matrix(matrix(played().recordings), form=form)
            return
        if lineage:
            say(f"written: {write_lineage(desk, played())}")
            return
        code = ruled(judged, form=form, target=target, strict=False)
    raise typer.Exit(code)


def _print_matrix(cells: tuple[Cell, ...], *, form: Format) -> None:
    if form is Format.JSON:
        print(json.dumps({"schema": SCHEMA, "cells": [_told(cell) for cell in cells]}, indent=2))
        return
    width = max((len(cell.parameter) for cell in cells), default=0)
    callee = ""
    for cell in cells:
        if cell.callee != callee:
            print(f"{'' if not callee else chr(10)}{cell.callee}")
            callee = cell.callee
        print(f"  {cell.parameter:<{width}}  {cell.state}")
    counts = ", ".join(f"{sum(c.state is state for c in cells)} {state}" for state in State)
    print(f"\n{len(cells)} parameters: {counts}")


def _told(cell: Cell) -> dict[str, object]:
    return {
        "callee": cell.callee,
        "parameter": cell.parameter,
        "state": cell.state,
        "value": cell.value,
        "values": cell.value_num,
        "scenarios": len(cell.scenarios),
    }
