"""Rewrites goldens on purpose: after showing why, with a reason, all of them or none."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from filelock import FileLock, Timeout

from tools.errors import ToolError
from tools.gate.request import GateRequest, GateResult
from tools.gate.self_checks import failed_checks
from tools.gate.side_results import RunnerFactory
from tools.goldens import provenance
from tools.goldens.changelog import add_changelog_entry
from tools.goldens.declaration import CHANGELOG_NAME, changelog_text
from tools.goldens.golden_set import GoldenSet, format_causes, read_golden_set
from tools.goldens.transaction import Transaction
from tools.progress import progress
from tools.sides.prepare import local_side
from tools.workers.protocol import ReadProvenance
from tools.workers.results import RunResults, parse_recordings, run_scenarios
from traces.diff import compare_sides
from traces.pytest.golden_files import PROVENANCE, golden_path, orphans, refuse_writing_in_ci
from traces.schema.canonical import render
from traces.schema.model import Recording, Trace

GoldenAction: TypeAlias = Literal["create", "fix", "update", "trim"]

LOCK_LIMIT_SECONDS = 5.0

_SCRATCH_FOLDER = ".goldentrace"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenChange:
    """One golden to change.

    Attributes:
        action: ``create`` a new one, ``fix`` one that says something else, ``update`` one that
            says the same in other bytes, ``trim`` one whose scenario is gone.
        text: the new canonical text, empty for ``trim``.
    """

    name: str
    action: GoldenAction
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegenerationPlan:
    """What a regeneration would do, and why.

    Attributes:
        evidence: the differences between the goldens and what was played.
        steps: what would change, in registry order, removals last.
        provenance: device and versions of what played.
    """

    result: GateResult
    changes: tuple[GoldenChange, ...]
    provenance: Mapping[str, str]


def require_permission(*, reason: str | None) -> str:
    """Return the reason, if goldens may be written at all.

    Raises:
        GoldenWriteError: this is a CI job.
        ToolError: there is no reason.
    """
    refuse_writing_in_ci(os.environ)
    if reason is None or not reason.strip():
        expected = "--reason TEXT, for the CHANGELOG"
        raise ToolError("regenerate", "must have a reason", expected=expected, got="none")
    return reason.strip()


@contextmanager
def lock_checkout(root: Path) -> Iterator[None]:
    """Keep every other regeneration of a checkout out while the block runs.

    Raises:
        ToolError: another process is in such a block, or the checkout cannot be written.
    """
    folder = root / _SCRATCH_FOLDER
    try:
        folder.mkdir(exist_ok=True)
        lock = FileLock(folder / "regenerate.lock").acquire(timeout=LOCK_LIMIT_SECONDS)
    except Timeout as error:
        rule, got = "must run one at a time", "another one is running"
        raise ToolError("regenerate", rule, expected="no other", got=got) from error
    except OSError as error:
        raise _unwritable(root, error) from error
    with lock:
        yield


def plan_regeneration(
    request: GateRequest, *, open_runner: RunnerFactory, commit: str | None
) -> RegenerationPlan:
    """Play the work tree and plan how the goldens come to say what it does.

    Goldens without a scenario are removed only when every scenario is played. A commit that is None
    is asked of git.

    Raises:
        ToolError: a scenario was not played to the end, is not deterministic, or complains about
            itself in a way that its golden does not.
    """
    surplus = orphans(request.folder, request.scenarios) if request.is_whole else ()
    stock = read_golden_set(request.folder, names=(*request.names, *surplus))
    with (
        open_runner(local_side(request.root)) as troupe,
        progress("playing worktree", total=len(request.names)) as on_played,
    ):
        playing = run_scenarios(
            troupe, request.selected_scenarios, device=request.device, on_run=on_played
        )
        player = troupe.call(ReadProvenance(device=request.device))
    _require_no_problems(playing)
    recordings = parse_recordings(playing)
    steps = [
        step
        for name, recording in recordings.items()
        if (step := _plan_change(name, trace=recording.trace, golden_set=stock)) is not None
    ]
    steps += [GoldenChange(name=name, action="trim", text="") for name in surplus]
    return RegenerationPlan(
        result=_gate_result(request, recordings=recordings, golden_set=stock),
        changes=tuple(steps),
        provenance=provenance.stamp_provenance(player, root=request.root, commit=commit),
    )


def apply_plan(request: GateRequest, plan: RegenerationPlan, *, reason: str) -> None:
    """Write goldens, provenance and CHANGELOG entry as one transaction.

    Raises:
        ToolError: something cannot be written; then every file is as it was.
    """
    names = [step.name for step in plan.changes]
    entry = add_changelog_entry(changelog_text(request.root), names=names, reason=reason)
    removed = [step.name for step in plan.changes if step.action == "trim"]
    written = {name: plan.provenance for name in names if name not in removed}
    try:
        request.folder.mkdir(parents=True, exist_ok=True)
        with Transaction() as transaction:
            for step in plan.changes:
                path = golden_path(request.folder, step.name)
                if step.action == "trim":
                    transaction.remove(path)
                else:
                    transaction.write(path, step.text.encode())
            record = provenance.render_provenance(request.folder, written=written, removed=removed)
            transaction.write(request.folder / PROVENANCE, record.encode())
            transaction.write(request.root / CHANGELOG_NAME, entry.encode())
            transaction.commit()
    except OSError as error:
        raise _unwritable(request.folder, error) from error


def _require_no_problems(results: RunResults) -> None:
    if not results.problems:
        return
    more = len(results.problems) - 1
    got = results.problems[0] + (f" (and {more} more)" if more else "")
    rule = "every scenario must be played alike twice"
    raise ToolError("regenerate", rule, expected="no problem", got=got)


def _plan_change(name: str, *, trace: Trace, golden_set: GoldenSet) -> GoldenChange | None:
    """Return how the golden must change; None when it says the same in the same bytes."""
    golden = golden_set.goldens.get(name)
    known = () if golden is None else failed_checks(golden.trace)
    new = [line for line in failed_checks(trace) if line not in known]
    if new:
        rule = "every oracle must hold"
        raise ToolError("regenerate", rule, expected="no complaint", got=new[0])
    text = render(trace)
    if golden is None:
        # A golden that cannot be read is replaced: the way out of a merge conflict.
        return GoldenChange(
            name=name, action="fix" if name in golden_set.problems else "create", text=text
        )
    if golden.trace != trace:
        return GoldenChange(name=name, action="fix", text=text)
    return None if golden.is_canonical else GoldenChange(name=name, action="update", text=text)


def _gate_result(
    request: GateRequest, *, recordings: Mapping[str, Recording], golden_set: GoldenSet
) -> GateResult:
    goldens = {
        name: Recording(trace=golden.trace, sites=None)
        for name, golden in golden_set.goldens.items()
    }
    return GateResult(
        head=recordings,
        base_unplayable={},
        head_unplayable={},
        causes=(*compare_sides(goldens, recordings), *format_causes(golden_set, root=request.root)),
        obstacles=(),
        faults=(),
        notes=tuple(golden_set.problems.values()),
    )


def _unwritable(place: Path, error: OSError) -> ToolError:
    got = error.strerror or error
    return ToolError("regenerate", "files must be writable", expected=f"to write {place}", got=got)
