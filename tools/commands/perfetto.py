"""The ``perfetto`` command: write a trace for ui.perfetto.dev."""

from pathlib import Path
from typing import Annotated

import typer

from tools.console import print_status
from tools.errors import ToolError, require_writable_path
from tools.report.perfetto import render_perfetto
from traces.schema.canonical import read_recording
from traces.schema.transaction import Transaction

SUFFIX = ".pftrace"


def perfetto(
    trace: Annotated[Path, typer.Argument(help="A trace: a golden, or one of `record`.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help=f"Where it goes; the trace's name with {SUFFIX} if none."
        ),
    ] = None,
) -> None:
    """Write a trace for Perfetto: streams as tracks, event edges as flows, counters.

    A trace has an order and no times: each event takes one microsecond. Open the file in
    ui.perfetto.dev.
    """
    if not trace.is_file():
        raise ToolError(str(trace), "must exist", expected="a trace", got="no such file")
    content = render_perfetto(read_recording(trace).trace)
    path = Path(f"{trace.stem}{SUFFIX}") if out is None else out
    expected = "a file in an existing folder"
    with require_writable_path(path, expected=expected), Transaction() as transaction:
        transaction.write(path, content)
        transaction.commit()
    print_status(f"written: {path}")
