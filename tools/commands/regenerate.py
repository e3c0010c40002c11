"""The ``regenerate`` command: rewrite goldens on purpose."""

from collections import Counter
from typing import Annotated

import typer

from tools import options
from tools.console import print_duration, print_status
from tools.gate.regenerate import (
    RegenerationPlan,
    apply_plan,
    lock_checkout,
    plan_regeneration,
    require_permission,
)
from tools.gate.request import golden_request, judge_sides
from tools.report.output import Output, print_verdict
from tools.report.render import Format

_PAST_TENSE = {"create": "created", "fix": "fixed", "update": "updated", "trim": "trimmed"}


def regenerate(
    context: typer.Context,
    names: options.ScenarioNames = None,
    *,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; goes into CHANGELOG.md.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    commit: options.CommitOption = None,
    target: options.TargetOption = "native",
    device: options.DeviceOption = "auto",
    timeout: options.TimeoutOption = options.DEFAULT_LIMIT_SECONDS,
) -> None:
    """Rewrite the goldens that differ, in one transaction.

    The causes are shown first. The reason goes into CHANGELOG.md. Refuses in CI, when a scenario is
    not deterministic and when a round trip does not restore its rows.
    """
    options.require_native(target)
    why = require_permission(reason=reason)
    session = options.start_session(context, target=target, limit_seconds=timeout)
    request = golden_request(session, names, device=options.parse_device(device))
    with print_duration(), lock_checkout(session.root):
        plan = plan_regeneration(request, commit=commit)
        for note in plan.result.notes:
            print_status(f"note: {note}")
        output = Output(form=Format.TEXT, strict=True, root=session.root)
        print_verdict(judge_sides(request, plan.result), output)
        _print_changes(plan, dry_run=dry_run)
        if plan.changes and not dry_run:
            apply_plan(request, plan, reason=why)


def _print_changes(plan: RegenerationPlan, *, dry_run: bool) -> None:
    print()
    for change in plan.changes:
        print(f"{change.action:<6}  {change.name}")
    counts = Counter(change.action for change in plan.changes)
    summary = ", ".join(f"{number} {_PAST_TENSE[action]}" for action, number in counts.items())
    if dry_run:
        print(f"dry run, nothing written: {summary or 'every golden is right'}")
    else:
        print(summary or "every golden is right")
