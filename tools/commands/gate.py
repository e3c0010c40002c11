"""``gate``, ``check`` and ``diff``: the verbs that come to a verdict and change nothing."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from tools.console import print_duration, report_verdict
from tools.gate.gate import run_gate
from tools.gate.request import build_verdict
from tools.gate.trace_files import compare_paths
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
    parse_interpreter,
    session_factory,
    side_or_default,
)
from tools.report.render import Format
from traces.schema.verdict import Verdict

TracePathArgument: TypeAlias = Annotated[
    Path, typer.Argument(help="A trace, or a directory of traces.")
]


def gate(
    context: typer.Context,
    names: ScenarioNames = None,
    *,
    base: SideOption = None,
    head: SideOption = None,
    target: TargetOption = "native",
    python: PythonOption = None,
    device: DeviceOption = "auto",
    form: FormatOption = Format.TEXT,
    strict: StrictOption = False,
    timeout: TimeoutOption = DEFAULT_LIMIT_SECONDS,
) -> None:
    """Judge a change before it is merged.

    Differences of head against base with their causes, the goldens as a set, builders that nothing
    plays, determinism, round trips, and whether CHANGELOG.md declares every changed golden. The
    work tree is compared with the goldens unless sides are named; a package has no work tree.
    """
    desk = session_factory(context)(target=target, limit_seconds=timeout)

    def judged() -> tuple[Verdict, tuple[str, ...]]:
        case = desk.build_request(
            names or [],
            base="golden" if base is None else base,
            head=side_or_default("worktree", head, option="--head", target=target),
            python=parse_interpreter(python, target=target),
            device=device,
            pre_merge=True,
            strict=strict,
        )
        return run_gate(case, open_runner=desk.open_runner)

    with print_duration():
        code = report_verdict(judged, form=form, target=target, strict=strict)
    raise typer.Exit(code)


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
    desk = session_factory(context)(target=target, limit_seconds=timeout)

    def judged() -> tuple[Verdict, tuple[str, ...]]:
        case = desk.build_request(
            names or [],
            base="golden",
            head=side_or_default("worktree", head, option="--head", target=target),
            python=parse_interpreter(python, target=target),
            device=device,
            pre_merge=False,
            strict=strict,
        )
        return run_gate(case, open_runner=desk.open_runner)

    with print_duration():
        code = report_verdict(judged, form=form, target=target, strict=strict)
    raise typer.Exit(code)


def diff(
    base: TracePathArgument,
    head: TracePathArgument,
    *,
    target: TargetOption = "native",
    form: FormatOption = Format.TEXT,
    strict: StrictOption = False,
) -> None:
    """Explain two traces, or two directories of them."""

    def judged() -> tuple[Verdict, tuple[str, ...]]:
        verdict = build_verdict(
            compare_paths(base, head),
            target=target,
            base={"side": str(base)},
            head={"side": str(head)},
            strict=strict,
        )
        return verdict, ()

    raise typer.Exit(report_verdict(judged, form=form, target=target, strict=strict))
