"""The ``review`` command: accept or reject golden changes, cause by cause."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tools import options
from tools.console import print_duration, print_status
from tools.errors import ToolError
from tools.gate.regenerate import (
    SCRATCH_FOLDER,
    apply_changes,
    lock_checkout,
    plan_regeneration,
    require_permission,
)
from tools.gate.request import GateRequest, golden_request
from tools.gate.review import Choice, Decision, Review, cause_id, matches, open_review
from tools.report.output import terminal_layout
from traces.pytest.golden_files import refuse_writing_in_ci
from traces.schema.verdict import Cause
from traces.text import phrases
from traces.text.cause_block import render_cause

_QUESTION = "[a]ccept, [r]eject, [s]kip, s[o]urce, sce[n]arios, [q]uit"
_CONTEXT_LINES = 3
EXIT_PENDING = 1

AcceptOption = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        metavar="GLOB",
        help="Accept causes by id, kind, parameter or kind:parameter; needs --reason.",
    ),
]
RejectOption = Annotated[
    list[str] | None, typer.Option("--reject", metavar="GLOB", help="Reject causes, named alike.")
]


def review(
    context: typer.Context,
    names: options.ScenarioNames = None,
    *,
    accept: AcceptOption = None,
    reject: RejectOption = None,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; goes into CHANGELOG.md.")
    ] = None,
    commit: options.CommitOption = None,
    device: options.DeviceOption = "auto",
    timeout: options.TimeoutOption = options.DEFAULT_LIMIT_SECONDS,
) -> None:
    """Accept or reject the differences between goldens and work tree, cause by cause.

    On a terminal it asks for each cause. Otherwise it lists the causes with their ids, and
    --accept and --reject decide. A golden is written, with its entry in CHANGELOG.md, when every
    cause that touches it is accepted. Decisions survive an interruption. Exit code 0: nothing is
    pending; 1: causes are pending or rejected.
    """
    refuse_writing_in_ci(os.environ)
    if accept:
        reason = require_permission(reason=reason)
    session = options.start_session(context, target="native", limit_seconds=timeout)
    request = golden_request(session, names, device=options.parse_device(device))
    with print_duration(), lock_checkout(session.root):
        plan = plan_regeneration(request, commit=commit)
        found = open_review(plan, folder=session.root / SCRATCH_FOLDER)
        if accept or reject:
            _decide_by_patterns(found, accept=accept or [], reject=reject or [], why=reason or "")
        elif sys.stdin.isatty():
            _ask(found, root=session.root)
        code = _finish(found, request)
    raise typer.Exit(code)


def _decide_by_patterns(found: Review, *, accept: list[str], reject: list[str], why: str) -> None:
    decisions = [(one, Decision(Choice.REJECT)) for one in reject]
    decisions += [(one, Decision(Choice.ACCEPT, why)) for one in accept]
    for pattern, decision in decisions:
        named = [cause for cause in found.causes if matches(cause, pattern)]
        if not named:
            known = ", ".join(cause_id(cause) for cause in found.causes) or "no cause is pending"
            option = f"--{decision.choice}"
            raise ToolError(option, "must name a cause", expected=known, got=repr(pattern))
        for cause in named:
            found.decide(cause, decision)


def _ask(found: Review, *, root: Path) -> None:
    """Ask for each pending cause; ``q`` ends the questions and keeps the decisions."""
    pending = found.pending
    layout = terminal_layout(root)
    for number, cause in enumerate(pending, start=1):
        print(f"\n{number} of {len(pending)}, id {cause_id(cause)}")
        print(render_cause(number, cause, layout=layout))
        if not _ask_one(found, cause, root=root):
            return


def _ask_one(found: Review, cause: Cause, *, root: Path) -> bool:
    """Ask until the cause is decided or skipped; return False to end the questions."""
    shown: dict[str, Callable[[], str]] = {
        "o": lambda: _source_text(cause, root=root),
        "n": lambda: "\n".join(cause.scenarios),
    }
    while True:
        answer = typer.prompt(_QUESTION, prompt_suffix="? ").strip().casefold()[:1]
        if answer in shown:
            print(shown[answer]())
        elif answer == "a":
            found.decide(cause, Decision(Choice.ACCEPT, typer.prompt("reason").strip()))
            return True
        elif answer == "r":
            found.decide(cause, Decision(Choice.REJECT))
            return True
        elif answer in {"s", "q"}:
            return bool(answer == "s")


def _source_text(cause: Cause, *, root: Path) -> str:
    """Return the lines around the cause's location, its own line marked."""
    if cause.location is None:
        return "no line is known"
    try:
        lines = (root / cause.location.file).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        return f"{phrases.place_text(cause)}: {error.strerror}"
    first = max(1, cause.location.line - _CONTEXT_LINES)
    last = min(len(lines), cause.location.line + _CONTEXT_LINES)
    return "\n".join(
        f"{'>' if number == cause.location.line else ' '} {number:>5}  {lines[number - 1]}"
        for number in range(first, last + 1)
    )


def _finish(found: Review, request: GateRequest) -> int:
    """Write what is settled, say what is left, and return the exit code."""
    settled = found.settled()
    if settled:
        apply_changes(request, found.plan, by_reason=settled)
        for reason, changes in settled.items():
            print_status(f"written: {phrases.pluralise(len(changes), 'golden')} ({reason})")
    written = [change for changes in settled.values() for change in changes]
    left = _left(found, written={change.name for change in written})
    found.forget(written)
    for cause, state in left:
        print(f"{cause_id(cause)}  {state:<8}  {cause.headline()}")
    if not left:
        print("nothing is pending")
    return EXIT_PENDING if left else 0


def _left(found: Review, *, written: set[str]) -> list[tuple[Cause, str]]:
    """Return the causes whose goldens are not all written, with the state of each."""
    words = {Choice.ACCEPT: "accepted", Choice.REJECT: "rejected"}
    return [
        (cause, words[decision.choice] if decision else "pending")
        for cause in found.causes
        for decision in [found.decisions.get(cause_id(cause))]
        if not (decision and decision.choice is Choice.ACCEPT and written >= set(cause.scenarios))
    ]
