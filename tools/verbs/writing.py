"""``record`` and ``regenerate``: the verbs that write traces."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from tools.desk import known_device
from tools.errors import ToolError
from tools.formats import Format
from tools.goldens import chosen
from tools.options import (
    DEFAULT_LIMIT_SECONDS,
    Commit,
    DeviceOption,
    Limit,
    Names,
    Out,
    Python,
    SideOption,
    Target,
    interpreter,
    opener,
    require_native,
    side_or,
)
from tools.output import print_verdict, say, timed
from tools.playing import unplayable_notes
from tools.progress import progress
from tools.recording import require_writable, write_traces
from tools.regenerate import Proposal, carry_out, locked, propose, require_permission

_PARTICIPLES = {"create": "created", "fix": "fixed", "update": "updated", "trim": "trimmed"}


def record(
    context: typer.Context,
    names: Names = None,
    *,
    side: SideOption = None,
    target: Target = "native",
    python: Python = None,
    device: DeviceOption = "auto",
    out: Out = Path(".goldentrace/traces"),
    timeout: Limit = DEFAULT_LIMIT_SECONDS,
) -> None:
    """Play scenarios and write their traces.

    The source lines that the records come from are written beside each trace.
    """
    desk = opener(context)(target=target, limit_seconds=timeout)
    wanted = chosen(names or [], known=desk.scenarios)
    known_device(device)
    played_side = side_or("worktree", side, option="--side", target=target)
    require_writable(out)
    with (
        timed(),
        desk.troupe_of(played_side, python=interpreter(python, target=target)) as troupe,
        progress("recording", total=len(wanted)) as on_played,
    ):
        playing = troupe.play(
            [desk.scenarios[name] for name in wanted], device=device, on_played=on_played
        )
    if playing.problems:
        for problem in playing.problems:
            say(problem)
        raise typer.Exit(2)
    for note in unplayable_notes(played_side, playing.unplayable):
        say(f"note: {note}")
    if not playing.performances:
        raise ToolError("scenarios", "must be played", expected="at least one", got=0)
    for path in write_traces(playing, folder=out):
        print(path)


def regenerate(
    context: typer.Context,
    names: Names = None,
    *,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; goes into CHANGELOG.md.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    commit: Commit = None,
    target: Target = "native",
    device: DeviceOption = "auto",
    timeout: Limit = DEFAULT_LIMIT_SECONDS,
) -> None:
    """Rewrite the goldens that differ, all or none.

    The causes are shown first. The reason goes into CHANGELOG.md. Refuses in CI, when a scenario is
    not deterministic and when a round trip does not restore its rows.
    """
    require_native(target)
    why = require_permission(reason=reason)
    desk = opener(context)(target=target, limit_seconds=timeout)
    case = desk.case(
        names or [],
        base="golden",
        head="worktree",
        python=None,
        device=device,
        pre_merge=False,
        strict=True,
    )
    with timed(), locked(case.root):
        proposal = propose(case, open_troupe=desk.open_troupe, commit=commit)
        for note in proposal.evidence.notes:
            say(f"note: {note}")
        print_verdict(case.verdict_on(proposal.evidence), form=Format.TEXT, strict=True)
        _print_steps(proposal, dry_run=dry_run)
        if proposal.steps and not dry_run:
            carry_out(case, proposal, reason=why)


def _print_steps(proposal: Proposal, *, dry_run: bool) -> None:
    print()
    for step in proposal.steps:
        print(f"{step.action:<6}  {step.name}")
    counts = Counter(step.action for step in proposal.steps)
    summary = ", ".join(f"{number} {_PARTICIPLES[action]}" for action, number in counts.items())
    if dry_run:
        print(f"dry run, nothing written: {summary or 'every golden is right'}")
    else:
        print(summary or "every golden is right")
