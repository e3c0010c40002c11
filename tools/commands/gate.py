"""The ``gate`` command: judge a change before it is merged."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, TypeAlias

import typer

from tools import options
from tools.console import print_duration
from tools.gate.gate import run_gate
from tools.gate.request import GateRequest
from tools.report.output import Output, report_verdict
from tools.report.render import Format

DEFAULT_ATTRIBUTE_SECONDS = 120.0

AttributeOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--attribute", help="Find the hunks of source that make each cause, by reverting them."
    ),
]
AttributeTimeOption: TypeAlias = Annotated[
    float,
    typer.Option(
        "--attribute-time", min=1.0, metavar="SECONDS", help="Time that --attribute may take."
    ),
]


def gate(
    context: typer.Context,
    names: options.ScenarioNames = None,
    *,
    base: options.SideOption = None,
    head: options.SideOption = None,
    target: options.TargetOption = "native",
    python: options.PythonOption = None,
    device: options.DeviceOption = "auto",
    form: options.FormatOption = Format.TEXT,
    files: options.OutputFilesOption = None,
    quiet: options.QuietOption = False,
    strict: options.StrictOption = False,
    attribute: AttributeOption = False,
    attribute_time: AttributeTimeOption = DEFAULT_ATTRIBUTE_SECONDS,
    timeout: options.TimeoutOption = options.DEFAULT_LIMIT_SECONDS,
    runs_all: options.AllOption = False,
    is_fresh: options.FreshOption = False,
) -> None:
    """Judge a change before it is merged.

    Differences of head against base with their causes, the goldens as a set, builders that nothing
    runs, determinism, round trips, and whether CHANGELOG.md declares every changed golden. The
    work tree is compared with the goldens unless sides are named; a package has no work tree.
    Scenarios that the change cannot reach are not run again: see docs/reference.md.
    """
    session = options.start_session(context, target=target, limit_seconds=timeout)
    if is_fresh:
        session = replace(session, store=None)
    report_gate(
        lambda: GateRequest(
            session=session,
            head=options.parse_code_side(session, head, option="--head", python=python),
            base=options.parse_code_side(
                session, "golden" if base is None else base, option="--base", python=python
            ),
            device=options.parse_device(device),
            selection=session.select(names),
            pre_merge=True,
            strict=strict,
            runs_all=runs_all,
            attribute_seconds=attribute_time if attribute else None,
        ),
        target=target,
        output=Output(
            form=form,
            strict=strict,
            quiet=quiet,
            files=tuple(files or ()),
            root=options.kept_root(session, head),
        ),
    )


def report_gate(build_request: Callable[[], GateRequest], *, target: str, output: Output) -> None:
    """Run a gate, print its verdict and end the command with the verdict's exit code.

    The request is built when errors become a verdict, for forms that machines read.
    """
    with print_duration():
        code = report_verdict(lambda: run_gate(build_request()), output=output, target=target)
    raise typer.Exit(code)
