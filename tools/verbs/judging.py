"""``gate``, ``check`` and ``diff``: the verbs that come to a verdict and change nothing."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from tools.formats import Format
from tools.gate import judge, verdict_on
from tools.options import (
    DEFAULT_LIMIT_SECONDS,
    DeviceOption,
    FormatOption,
    Limit,
    Names,
    Python,
    SideOption,
    Strict,
    Target,
    interpreter,
    opener,
    side_or,
)
from tools.output import ruled, timed
from tools.recording import compare_paths
from traces.verdict import Verdict

TracePath: TypeAlias = Annotated[Path, typer.Argument(help="A trace, or a directory of traces.")]


def gate(
    context: typer.Context,
    names: Names = None,
    *,
    base: SideOption = None,
    head: SideOption = None,
    target: Target = "native",
    python: Python = None,
    device: DeviceOption = "auto",
    form: FormatOption = Format.TEXT,
    strict: Strict = False,
    timeout: Limit = DEFAULT_LIMIT_SECONDS,
) -> None:
    """Judge a change before it is merged.

    Differences of head against base with their causes, the goldens as a set, builders that nothing
    plays, determinism, round trips, and whether CHANGELOG.md declares every changed golden. The
    work tree is compared with the goldens unless sides are named; a package has no work tree.
    """
    desk = opener(context)(target=target, limit_seconds=timeout)

    def judged() -> tuple[Verdict, tuple[str, ...]]:
        case = desk.case(
            names or [],
            base="golden" if base is None else base,
            head=side_or("worktree", head, option="--head", target=target),
            python=interpreter(python, target=target),
            device=device,
            pre_merge=True,
            strict=strict,
        )
        return judge(case, open_troupe=desk.open_troupe)

    with timed():
        code = ruled(judged, form=form, target=target, strict=strict)
    raise typer.Exit(code)


def check(
    context: typer.Context,
    names: Names = None,
    *,
    head: SideOption = None,
    target: Target = "native",
    python: Python = None,
    device: DeviceOption = "auto",
    form: FormatOption = Format.TEXT,
    strict: Strict = False,
    timeout: Limit = DEFAULT_LIMIT_SECONDS,
) -> None:
    """Compare scenarios with their goldens."""
    desk = opener(context)(target=target, limit_seconds=timeout)

    def judged() -> tuple[Verdict, tuple[str, ...]]:
        case = desk.case(
            names or [],
            base="golden",
            head=side_or("worktree", head, option="--head", target=target),
            python=interpreter(python, target=target),
            device=device,
            pre_merge=False,
            strict=strict,
        )
        return judge(case, open_troupe=desk.open_troupe)

    with timed():
        code = ruled(judged, form=form, target=target, strict=strict)
    raise typer.Exit(code)


def diff(
    base: TracePath,
    head: TracePath,
    *,
    target: Target = "native",
    form: FormatOption = Format.TEXT,
    strict: Strict = False,
) -> None:
    """Explain two traces, or two directories of them."""

    def judged() -> tuple[Verdict, tuple[str, ...]]:
        verdict = verdict_on(
            compare_paths(base, head),
            target=target,
            base={"side": str(base)},
            head={"side": str(head)},
            strict=strict,
        )
        return verdict, ()

    raise typer.Exit(ruled(judged, form=form, target=target, strict=strict))
