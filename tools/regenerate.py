"""Rewrites goldens on purpose: after showing why, with a reason, all of them or none."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from filelock import FileLock, Timeout

from tools import provenance
from tools.changelog import with_entry
from tools.declaration import CHANGELOG, changelog_text
from tools.errors import ToolError
from tools.gate import Case, Evidence
from tools.inventory import Stock, format_causes, read_stock
from tools.oracle import complaints
from tools.playing import Playing, recorded
from tools.progress import progress
from tools.standing import own
from tools.testimony import OpenTroupe
from tools.transaction import Transaction
from traces.canonical import render
from traces.diff import compare_sides
from traces.goldens import PROVENANCE, golden_path, orphans, refuse_writing_in_ci
from traces.model import Recording, Trace

Action: TypeAlias = Literal["create", "fix", "update", "trim"]

LOCK_LIMIT_SECONDS = 5.0

_SCRATCH = ".goldentrace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One golden to change.

    Attributes:
        action: ``create`` a new one, ``fix`` one that says something else, ``update`` one that
            says the same in other bytes, ``trim`` one whose scenario is gone.
        text: the new canonical text, empty for ``trim``.
    """

    name: str
    action: Action
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a regeneration would do, and why.

    Attributes:
        evidence: the differences between the goldens and what was played.
        steps: what would change, in registry order, removals last.
        provenance: device and versions of what played.
    """

    evidence: Evidence
    steps: tuple[Step, ...]
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
def locked(root: Path) -> Iterator[None]:
    """Keep every other regeneration of a checkout out while the block runs.

    Raises:
        ToolError: another process is in such a block, or the checkout cannot be written.
    """
    folder = root / _SCRATCH
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


def propose(case: Case, *, open_troupe: OpenTroupe, commit: str | None) -> Proposal:
    """Play the work tree and plan how the goldens come to say what it does.

    Goldens without a scenario are removed only when every scenario is played. A commit that is None
    is asked of git.

    Raises:
        ToolError: a scenario was not played to the end, is not deterministic, or complains about
            itself in a way that its golden does not.
    """
    surplus = orphans(case.folder, case.scenarios) if case.is_whole else ()
    stock = read_stock(case.folder, names=(*case.names, *surplus))
    with (
        open_troupe(own(case.root)) as troupe,
        progress("playing worktree", total=len(case.names)) as on_played,
    ):
        playing = troupe.play(case.to_play, device=case.device, on_played=on_played)
        player = troupe.provenance(device=case.device)
    _require_played(playing)
    recordings = recorded(playing)
    steps = [
        step
        for name, recording in recordings.items()
        if (step := _step(name, trace=recording.trace, stock=stock)) is not None
    ]
    steps += [Step(name=name, action="trim", text="") for name in surplus]
    return Proposal(
        evidence=_evidence(case, recordings=recordings, stock=stock),
        steps=tuple(steps),
        provenance=provenance.stamped(player, root=case.root, commit=commit),
    )


def carry_out(case: Case, proposal: Proposal, *, reason: str) -> None:
    """Write goldens, provenance and CHANGELOG entry as one transaction.

    Raises:
        ToolError: something cannot be written; then every file is as it was.
    """
    names = [step.name for step in proposal.steps]
    entry = with_entry(changelog_text(case.root), names=names, reason=reason)
    removed = [step.name for step in proposal.steps if step.action == "trim"]
    written = {name: proposal.provenance for name in names if name not in removed}
    try:
        case.folder.mkdir(parents=True, exist_ok=True)
        with Transaction() as transaction:
            for step in proposal.steps:
                path = golden_path(case.folder, step.name)
                if step.action == "trim":
                    transaction.remove(path)
                else:
                    transaction.write(path, step.text.encode())
            record = provenance.updated(case.folder, written=written, removed=removed)
            transaction.write(case.folder / PROVENANCE, record.encode())
            transaction.write(case.root / CHANGELOG, entry.encode())
            transaction.commit()
    except OSError as error:
        raise _unwritable(case.folder, error) from error


def _require_played(playing: Playing) -> None:
    if not playing.problems:
        return
    more = len(playing.problems) - 1
    got = playing.problems[0] + (f" (and {more} more)" if more else "")
    rule = "every scenario must be played alike twice"
    raise ToolError("regenerate", rule, expected="no problem", got=got)


def _step(name: str, *, trace: Trace, stock: Stock) -> Step | None:
    """Return how the golden must change; None when it says the same in the same bytes."""
    golden = stock.goldens.get(name)
    known = () if golden is None else complaints(golden.trace)
    new = [line for line in complaints(trace) if line not in known]
    if new:
        rule = "every oracle must hold"
        raise ToolError("regenerate", rule, expected="no complaint", got=new[0])
    text = render(trace)
    if golden is None:
        # A golden that cannot be read is replaced: the way out of a merge conflict.
        return Step(name=name, action="fix" if name in stock.problems else "create", text=text)
    if golden.trace != trace:
        return Step(name=name, action="fix", text=text)
    return None if golden.is_canonical else Step(name=name, action="update", text=text)


def _evidence(case: Case, *, recordings: Mapping[str, Recording], stock: Stock) -> Evidence:
    goldens = {
        name: Recording(trace=golden.trace, sites=None) for name, golden in stock.goldens.items()
    }
    return Evidence(
        head=recordings,
        base_unplayable={},
        head_unplayable={},
        causes=(*compare_sides(goldens, recordings), *format_causes(stock, root=case.root)),
        obstacles=(),
        faults=(),
        notes=tuple(stock.problems.values()),
    )


def _unwritable(place: Path, error: OSError) -> ToolError:
    got = error.strerror or error
    return ToolError("regenerate", "files must be writable", expected=f"to write {place}", got=got)
