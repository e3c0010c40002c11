"""The ``check`` command: compare scenarios with their goldens."""

import typer

from tools import options
from tools.commands.gate import report_gate
from tools.gate.request import GateRequest
from tools.report.output import Output
from tools.report.render import Format


def check(
    context: typer.Context,
    names: options.ScenarioNames = None,
    *,
    head: options.SideOption = None,
    target: options.TargetOption = "native",
    python: options.PythonOption = None,
    device: options.DeviceOption = "auto",
    form: options.FormatOption = Format.TEXT,
    files: options.OutputFilesOption = None,
    quiet: options.QuietOption = False,
    strict: options.StrictOption = False,
    timeout: options.TimeoutOption = options.DEFAULT_LIMIT_SECONDS,
) -> None:
    """Compare scenarios with their goldens."""
    session = options.start_session(context, target=target, limit_seconds=timeout)
    report_gate(
        lambda: GateRequest(
            session=session,
            base=session.parse_side("golden"),
            head=options.parse_code_side(session, head, option="--head", python=python),
            device=options.parse_device(device),
            selection=session.select(names),
            pre_merge=False,
            strict=strict,
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
