"""``parity``: whether a GPU plays what the goldens say."""

import os
from contextlib import nullcontext
from typing import Annotated

import typer

from tools.console import print_duration, report_verdict
from tools.gate.parity import check_parity, require_certifiable, write_certificate
from tools.gate.regenerate import lock_checkout
from tools.options import (
    DEFAULT_LIMIT_SECONDS,
    CommitOption,
    DeviceOption,
    FormatOption,
    ScenarioNames,
    TargetOption,
    TimeoutOption,
    require_native,
    session_factory,
)
from tools.report.render import Format
from traces.pytest.golden_files import refuse_writing_in_ci
from traces.schema.verdict import Verdict


def parity(
    context: typer.Context,
    names: ScenarioNames = None,
    *,
    device: DeviceOption = "cuda",
    write: Annotated[
        bool, typer.Option("--write", help="Certify in PARITY.json that nothing differs.")
    ] = False,
    commit: CommitOption = None,
    target: TargetOption = "native",
    form: FormatOption = Format.TEXT,
    timeout: TimeoutOption = DEFAULT_LIMIT_SECONDS,
) -> None:
    """Play on a GPU and compare with the goldens byte for byte.

    A certificate is refused in CI, off the GPU, and unless every scenario was played and equals
    its golden.
    """
    if write:
        refuse_writing_in_ci(os.environ)
    require_native(target)
    desk = session_factory(context)(target=target, limit_seconds=timeout)

    def judged() -> tuple[Verdict, tuple[str, ...]]:
        case = desk.build_request(
            names or [],
            base="golden",
            head="worktree",
            python=None,
            device=device,
            pre_merge=False,
            strict=True,
        )
        if write:
            require_certifiable(case)
        with lock_checkout(case.root) if write else nullcontext():
            found = check_parity(case, open_runner=desk.open_runner)
            written = (write_certificate(case, found, commit=commit),) if write else ()
        return found.verdict, (found.summary, *written)

    with print_duration():
        code = report_verdict(judged, form=form, target=target, strict=True)
    raise typer.Exit(code)
