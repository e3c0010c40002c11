"""``record`` and ``regenerate``: the verbs that write traces."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from tools.console import print_duration, print_status, print_verdict
from tools.errors import ToolError
from tools.gate.regenerate import (
    RegenerationPlan,
    apply_plan,
    lock_checkout,
    plan_regeneration,
    require_permission,
)
from tools.gate.request import judge_sides
from tools.gate.trace_files import require_writable, write_traces
from tools.goldens.files import select_scenarios
from tools.options import (
    DEFAULT_LIMIT_SECONDS,
    CommitOption,
    DeviceOption,
    OutOption,
    PythonOption,
    ScenarioNames,
    SideOption,
    TargetOption,
    TimeoutOption,
    parse_interpreter,
    require_native,
    session_factory,
    side_or_default,
)
from tools.progress import progress
from tools.report.render import Format
from tools.session import parse_device
from tools.workers.results import run_scenarios, unplayable_notes

_PAST_TENSE = {"create": "created", "fix": "fixed", "update": "updated", "trim": "trimmed"}


def record(
    context: typer.Context,
    names: ScenarioNames = None,
    *,
    side: SideOption = None,
    target: TargetOption = "native",
    python: PythonOption = None,
    device: DeviceOption = "auto",
    out: OutOption = Path(".goldentrace/traces"),
    timeout: TimeoutOption = DEFAULT_LIMIT_SECONDS,
) -> None:
    """Play scenarios and write their traces.

    The source lines that the records come from are written beside each trace.
    """
    desk = session_factory(context)(target=target, limit_seconds=timeout)
    wanted = select_scenarios(names or [], known=desk.scenarios)
    parse_device(device)
    played_side = side_or_default("worktree", side, option="--side", target=target)
    require_writable(out)
    with (
        print_duration(),
        desk.open_side(played_side, python=parse_interpreter(python, target=target)) as troupe,
        progress("recording", total=len(wanted)) as on_played,
    ):
        playing = run_scenarios(
            troupe, [desk.scenarios[name] for name in wanted], device=device, on_run=on_played
        )
    if playing.problems:
        for problem in playing.problems:
            print_status(problem)
        raise typer.Exit(2)
    for note in unplayable_notes(played_side, playing.unplayable):
        print_status(f"note: {note}")
    if not playing.by_scenario:
        raise ToolError("scenarios", "must be played", expected="at least one", got=0)
    for path in write_traces(playing, folder=out):
        print(path)


def regenerate(
    context: typer.Context,
    names: ScenarioNames = None,
    *,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; goes into CHANGELOG.md.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    commit: CommitOption = None,
    target: TargetOption = "native",
    device: DeviceOption = "auto",
    timeout: TimeoutOption = DEFAULT_LIMIT_SECONDS,
) -> None:
    """Rewrite the goldens that differ, all or none.

    The causes are shown first. The reason goes into CHANGELOG.md. Refuses in CI, when a scenario is
    not deterministic and when a round trip does not restore its rows.
    """
    require_native(target)
    why = require_permission(reason=reason)
    desk = session_factory(context)(target=target, limit_seconds=timeout)
    case = desk.build_request(
        names or [],
        base="golden",
        head="worktree",
        python=None,
        device=device,
        pre_merge=False,
        strict=True,
    )
    with print_duration(), lock_checkout(case.root):
        proposal = plan_regeneration(case, open_runner=desk.open_runner, commit=commit)
        for note in proposal.result.notes:
            print_status(f"note: {note}")
        print_verdict(judge_sides(case, proposal.result), form=Format.TEXT, strict=True)
        _print_changes(proposal, dry_run=dry_run)
        if proposal.changes and not dry_run:
            apply_plan(case, proposal, reason=why)


def _print_changes(plan: RegenerationPlan, *, dry_run: bool) -> None:
    print()
    for step in plan.changes:
        print(f"{step.action:<6}  {step.name}")
    counts = Counter(step.action for step in plan.changes)
    summary = ", ".join(f"{number} {_PAST_TENSE[action]}" for action, number in counts.items())
    if dry_run:
        print(f"dry run, nothing written: {summary or 'every golden is right'}")
    else:
        print(summary or "every golden is right")
