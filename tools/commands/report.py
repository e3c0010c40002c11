"""The ``report`` command: write one self-contained HTML page of a comparison."""

from pathlib import Path
from typing import Annotated

import typer

from tools import options
from tools.console import print_duration, print_status
from tools.errors import require_writable_path
from tools.gate.gate import compare_request
from tools.gate.request import GateRequest, judge_sides
from tools.report.html.history import golden_history
from tools.report.html.page import PageContent, render_page
from tools.report.output import EXIT_CODES
from traces.schema.transaction import Transaction

DEFAULT_OUT = Path("goldentrace-report.html")


def report(
    context: typer.Context,
    names: options.ScenarioNames = None,
    *,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where the page goes.")
    ] = DEFAULT_OUT,
    base: options.SideOption = None,
    head: options.SideOption = None,
    target: options.TargetOption = "native",
    python: options.PythonOption = None,
    device: options.DeviceOption = "auto",
    strict: options.StrictOption = False,
    timeout: options.TimeoutOption = options.DEFAULT_LIMIT_SECONDS,
) -> None:
    """Write one HTML page: verdict, causes, memory map, transfers, coverage, history.

    The comparison is that of ``gate``, and so is the exit code. The page needs no network.
    """
    session = options.start_session(context, target=target, limit_seconds=timeout)
    request = GateRequest(
        session=session,
        head=options.parse_code_side(session, head, option="--head", python=python),
        base=options.parse_code_side(
            session, "golden" if base is None else base, option="--base", python=python
        ),
        device=options.parse_device(device),
        selection=session.select(names),
        pre_merge=True,
        strict=strict,
    )
    with print_duration():
        result = compare_request(request)
        verdict = judge_sides(request, result)
        content = PageContent(
            verdict=verdict,
            base=result.base,
            head=result.head,
            history=golden_history(session.root, folder=request.folder),
        )
        page = render_page(content).encode()
        expected = "a file in an existing folder"
        with require_writable_path(out, expected=expected), Transaction() as transaction:
            transaction.write(out, page)
            transaction.commit()
        for note in result.notes:
            print_status(f"note: {note}")
        print_status(f"written: {out}")
        print(f"{verdict.verdict}: {out}")
    raise typer.Exit(EXIT_CODES[verdict.verdict])
