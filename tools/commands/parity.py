"""The ``parity`` command: compare a GPU with the goldens byte for byte."""

import os
from contextlib import nullcontext
from typing import Annotated

import typer

from tools import options
from tools.console import print_duration
from tools.gate.parity import check_parity, require_certifiable, write_certificate
from tools.gate.regenerate import lock_checkout
from tools.gate.request import golden_request
from tools.report.output import Output, report_verdict
from tools.report.render import Format
from traces.pytest.golden_files import refuse_writing_in_ci
from traces.schema.verdict import Verdict


def parity(
    context: typer.Context,
    names: options.ScenarioNames = None,
    *,
    device: options.DeviceOption = "cuda",
    write: Annotated[
        bool, typer.Option("--write", help="Certify in PARITY.json that nothing differs.")
    ] = False,
    commit: options.CommitOption = None,
    target: options.TargetOption = "native",
    form: options.FormatOption = Format.TEXT,
    files: options.OutputFilesOption = None,
    quiet: options.QuietOption = False,
    timeout: options.TimeoutOption = options.DEFAULT_LIMIT_SECONDS,
) -> None:
    """Run on a GPU and compare with the goldens byte for byte.

    A certificate is refused in CI, off the GPU, and unless every scenario was played and equals
    its golden.
    """
    if write:
        refuse_writing_in_ci(os.environ)
    options.require_native(target)
    session = options.start_session(context, target=target, limit_seconds=timeout)

    def judge() -> tuple[Verdict, tuple[str, ...]]:
        request = golden_request(session, names, device=options.parse_device(device))
        if write:
            require_certifiable(request)
        with lock_checkout(session.root) if write else nullcontext():
            found = check_parity(request)
            written = (write_certificate(request, found, commit=commit),) if write else ()
        return found.verdict, (found.summary, *written)

    with print_duration():
        code = report_verdict(
            judge,
            output=Output(form=form, strict=True, quiet=quiet, files=tuple(files or ())),
            target=target,
        )
    raise typer.Exit(code)
