"""``check``: compares scenarios with their goldens."""

import typer

from tools.commands.gate import report_gate
from tools.gate.request import GateRequest
from tools.options import (
    DEFAULT_LIMIT_SECONDS,
    DeviceOption,
    FormatOption,
    PythonOption,
    ScenarioNames,
    SideOption,
    StrictOption,
    TargetOption,
    TimeoutOption,
    parse_code_side,
    parse_device,
    start_session,
)
from tools.report.render import Format


def check(
    context: typer.Context,
    names: ScenarioNames = None,
    *,
    head: SideOption = None,
    target: TargetOption = "native",
    python: PythonOption = None,
    device: DeviceOption = "auto",
    form: FormatOption = Format.TEXT,
    strict: StrictOption = False,
    timeout: TimeoutOption = DEFAULT_LIMIT_SECONDS,
) -> None:
    """Compare scenarios with their goldens."""
    session = start_session(context, target=target, limit_seconds=timeout)
    report_gate(
        lambda: GateRequest(
            session=session,
            base=session.parse_side("golden"),
            head=parse_code_side(session, head, option="--head", python=python),
            device=parse_device(device),
            selection=session.select(names),
            pre_merge=False,
            strict=strict,
        ),
        target=target,
        form=form,
        strict=strict,
    )
