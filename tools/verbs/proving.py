"""``parity``: whether a GPU plays what the goldens say."""

import os
from contextlib import nullcontext
from typing import Annotated

import typer

from tools.formats import Format
from tools.options import (
    DEFAULT_LIMIT_SECONDS,
    Commit,
    DeviceOption,
    FormatOption,
    Limit,
    Names,
    Target,
    opener,
    require_native,
)
from tools.output import ruled, timed
from tools.parity import certify, prove, require_certifiable
from tools.regenerate import locked
from traces.goldens import refuse_writing_in_ci
from traces.parity import DECLARED_DIFFERENCES
from traces.verdict import Verdict


def parity(
    context: typer.Context,
    names: Names = None,
    *,
    device: DeviceOption = "cuda",
    write: Annotated[
        bool, typer.Option("--write", help="Certify in PARITY.json that nothing differs.")
    ] = False,
    commit: Commit = None,
    target: Target = "native",
    form: FormatOption = Format.TEXT,
    timeout: Limit = DEFAULT_LIMIT_SECONDS,
) -> None:
    """Play on a GPU and compare with the goldens byte for byte.

    Only the declared differences of a device (traces/parity.py) are left out. A certificate is
    refused in CI, off the GPU, and unless every scenario was played and equals its golden.
    """
    if write:
        refuse_writing_in_ci(os.environ)
    require_native(target)
    desk = opener(context)(target=target, limit_seconds=timeout)

    def judged() -> tuple[Verdict, tuple[str, ...]]:
        case = desk.case(
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
        with locked(case.root) if write else nullcontext():
            found = prove(case, open_troupe=desk.open_troupe, declared=DECLARED_DIFFERENCES)
            written = (certify(case, found, commit=commit),) if write else ()
        return found.verdict, (found.summary, *written)

    with timed():
        code = ruled(judged, form=form, target=target, strict=True)
    raise typer.Exit(code)
