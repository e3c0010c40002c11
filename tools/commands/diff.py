"""The ``diff`` command: explain the differences between trace files."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from tools import options
from tools.gate.request import build_verdict
from tools.gate.trace_files import compare_paths
from tools.report.output import Output, report_verdict
from tools.report.render import Format
from traces.schema.verdict import Verdict

TracePathArgument: TypeAlias = Annotated[
    Path, typer.Argument(help="A trace, or a directory of traces.")
]


def diff(
    base: TracePathArgument,
    head: TracePathArgument,
    *,
    target: options.TargetOption = "native",
    form: options.FormatOption = Format.TEXT,
    files: options.OutputFilesOption = None,
    quiet: options.QuietOption = False,
    strict: options.StrictOption = False,
) -> None:
    """Explain two traces, or two directories of them."""

    def judge() -> tuple[Verdict, tuple[str, ...]]:
        verdict = build_verdict(
            compare_paths(base, head),
            target=target,
            base={"side": str(base)},
            head={"side": str(head)},
            strict=strict,
        )
        return verdict, ()

    raise typer.Exit(
        report_verdict(
            judge,
            output=Output(form=form, strict=strict, quiet=quiet, files=tuple(files or ())),
            target=target,
        )
    )
