"""Regeneration of goldens, on purpose and with a reason."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from filelock import FileLock, Timeout

from tools.errors import ToolError, require_writable_path
from tools.gate.evidence import add_evidence
from tools.gate.refine import RefineContext
from tools.gate.request import GateRequest, GateResult
from tools.gate.self_checks import failed_checks
from tools.goldens import sidecars
from tools.goldens.changelog import add_changelog_entry, shortest_patterns
from tools.goldens.declaration import CHANGELOG_NAME, changelog_text
from tools.goldens.golden_set import GoldenSet, format_causes, read_golden_set
from tools.workers.protocol import ReadProvenance
from traces.diff import compare_sides
from traces.pytest.golden_files import PROVENANCE, golden_path, orphans, refuse_writing_in_ci
from traces.schema.canonical import render
from traces.schema.model import Trace
from traces.schema.transaction import Transaction

GoldenAction: TypeAlias = Literal["create", "fix", "update", "trim"]

LOCK_LIMIT_SECONDS = 5.0

SCRATCH_FOLDER = ".goldentrace"


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenChange:
    """One golden to change.

    Attributes:
        action: ``create`` a new one, ``fix`` one with another trace, ``update`` one with the same
            trace in other bytes, ``trim`` one whose scenario is gone.
        text: the new canonical text, empty for ``trim``.
    """

    name: str
    action: GoldenAction
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RegenerationPlan:
    """Changes that a regeneration would make, and the differences behind them.

    Attributes:
        result: the differences between the goldens and the work tree.
        changes: in registry order, removals last.
        provenance: device and versions of the workers, commit and date.
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
        raise ToolError("a written golden", "must have a reason", expected=expected, got="none")
    return reason.strip()


@contextmanager
def lock_checkout(root: Path) -> Iterator[None]:
    """Keep every other regeneration of a checkout out while the block runs.

    Raises:
        ToolError: another process is in such a block, or the checkout cannot be written.
    """
    folder = root / SCRATCH_FOLDER
    with require_writable_path(root, expected="a writable directory"):
        folder.mkdir(exist_ok=True)
        try:
            lock = FileLock(folder / "regenerate.lock").acquire(timeout=LOCK_LIMIT_SECONDS)
        except Timeout as error:
            rule, got = "must run one at a time", "another one is running"
            raise ToolError("regenerate", rule, expected="no other", got=got) from error
    with lock:
        yield


def plan_regeneration(request: GateRequest, *, commit: str | None) -> RegenerationPlan:
    """Run the work tree and plan the changes that make the goldens equal to its traces.

    The request comes from :func:`~tools.gate.request.golden_request`. Goldens without a scenario
    are removed only when every scenario is run. A commit that is None is read from git.

    Raises:
        ToolError: a scenario was not run to its end, is not deterministic, or fails a check of its
            own that its golden does not fail.
    """
    selection = request.selection
    surplus = orphans(request.folder, selection.known) if selection.is_whole else ()
    golden_set = read_golden_set(request.folder, names=(*selection.names, *surplus))
    with request.session.open_side(request.head) as opened:
        results = opened.run(selection.scenarios, device=request.device, lists_builders=False)
        worker_info = opened.pool.call(ReadProvenance(device=request.device))
        context = RefineContext(
            request=request,
            base=None,
            head=opened,
            recordings=(golden_set.recordings, results.recordings),
        )
        causes = add_evidence(compare_sides(*context.recordings), context)
    results.require_no_problems(subject="regenerate", rule="every scenario must run alike twice")
    changes = [
        change
        for name, recording in results.recordings.items()
        if (change := _plan_change(name, trace=recording.trace, golden_set=golden_set)) is not None
    ]
    changes += [GoldenChange(name=name, action="trim", text="") for name in surplus]
    root = request.session.root
    return RegenerationPlan(
        result=GateResult(
            head=results.recordings,
            causes=(*causes, *format_causes(golden_set, root=root)),
            notes=tuple(golden_set.problems.values()),
        ),
        changes=tuple(changes),
        provenance=sidecars.stamp_provenance(worker_info, root=root, commit=commit),
    )


def apply_plan(request: GateRequest, plan: RegenerationPlan, *, reason: str) -> None:
    """Write goldens, provenance and CHANGELOG entry as one transaction.

    Raises:
        ToolError: something cannot be written; then every file is as it was.
    """
    apply_changes(request, plan, by_reason={reason: plan.changes})


def apply_changes(
    request: GateRequest,
    plan: RegenerationPlan,
    *,
    by_reason: Mapping[str, Sequence[GoldenChange]],
) -> None:
    """Write some changes of a plan, with one CHANGELOG entry for each reason, in one transaction.

    Raises:
        ToolError: something cannot be written; then every file is as it was.
    """
    root = request.session.root
    changes = [change for group in by_reason.values() for change in group]
    entry = changelog_text(root)
    for reason, group in by_reason.items():
        names = [change.name for change in group]
        patterns = shortest_patterns(names, [*request.session.scenarios, *names])
        entry = add_changelog_entry(entry, names=patterns, reason=reason)
    removed = [change.name for change in changes if change.action == "trim"]
    written = {change.name: plan.provenance for change in changes if change.name not in removed}
    with require_writable_path(request.folder, expected="a writable directory"):
        request.folder.mkdir(parents=True, exist_ok=True)
        with Transaction() as transaction:
            for change in changes:
                path = golden_path(request.folder, change.name)
                if change.action == "trim":
                    transaction.remove(path)
                else:
                    transaction.write(path, change.text.encode())
            record = sidecars.render_provenance(request.folder, written=written, removed=removed)
            transaction.write(request.folder / PROVENANCE, record.encode())
            transaction.write(root / CHANGELOG_NAME, entry.encode())
            transaction.commit()


def _plan_change(name: str, *, trace: Trace, golden_set: GoldenSet) -> GoldenChange | None:
    """Return the change of one golden; None when it has the same trace in the same bytes."""
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
