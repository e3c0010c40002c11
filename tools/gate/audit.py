"""Audit of one side: what its recordings tell against it, less what is known with a reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.errors import ToolError
from tools.gate.audit_baseline import AuditFindings, audit_against_baseline, lineage_path
from tools.goldens.golden_set import uncovered_causes
from tools.progress import progress
from tools.report.phrases import pluralise
from tools.session import Session, parse_device
from tools.sides.parse import Side, parse_side
from tools.sides.prepare import prepare_side
from tools.workers.protocol import ListBuilders
from tools.workers.results import parse_recordings, run_scenarios, unplayable_notes
from traces.audit import finding_key, lineage_of, render_lineage
from traces.schema.model import Recording
from traces.schema.verdict import ScenarioCounts, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRun:
    """One side, played for an audit.

    Attributes:
        recordings: by scenario.
        builders: that the side has.
        notes: one line for each reason why scenarios could not be played.
        problems: one line for each scenario that was not played to the end.
    """

    side: Side
    recordings: Mapping[str, Recording]
    builders: tuple[str, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def run_for_audit(session: Session, side: str, *, python: Path | None, device: str) -> AuditRun:
    """Play every scenario on a side, on all buffers that can be reached.

    Raises:
        ToolError: the side is unknown or cannot be played, or has nothing to play.
    """
    device = parse_device(device)
    parsed = parse_side(side, root=session.root, target=session.target)
    scenarios = tuple(session.scenarios.values())
    with (
        prepare_side(parsed, root=session.root, python=python) as place,
        session.open_audit_runner(place) as troupe,
        progress(f"playing {parsed.text}", total=len(scenarios)) as on_played,
    ):
        playing = run_scenarios(troupe, scenarios, device=device, on_run=on_played)
        builders = troupe.call(ListBuilders())
    recordings = parse_recordings(playing)
    if not recordings and not playing.problems:
        raise ToolError("scenarios", "must be played", expected="at least one", got=0)
    return AuditRun(
        side=parsed,
        recordings=recordings,
        builders=builders,
        notes=unplayable_notes(parsed.text, playing.unplayable),
        problems=playing.problems,
    )


def build_audit_verdict(session: Session, played: AuditRun) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict on a side and notes.

    Raises:
        ToolError: a file beside the audit cannot be read.
        TraceFormatError: such a file is not what it should be.
    """
    findings = audit_against_baseline(
        played.recordings,
        root=session.root,
        target=session.target,
        entries=session.builders.values(),
        extra=uncovered_causes(
            played.builders, registry={**session.builders, **_builders_called(played)}
        ),
        excluded_kinds=frozenset(),
    )
    notes = [*played.notes]
    if findings.known_count:
        known = pluralise(findings.known_count, "known finding")
        notes.append(f"not shown: {known} of traces/baseline/{session.target}.toml")
    return _build_verdict(session, played, findings), tuple(notes)


def finding_keys(verdict: Verdict) -> tuple[str, ...]:
    """Return the lines that would make the findings of a verdict known, less their reasons."""
    return tuple(finding_key(cause) for cause in verdict.causes)


def write_lineage(session: Session, played: AuditRun) -> Path:
    """Put on file where the arguments of a side come from, and return the file.

    Raises:
        ToolError: it cannot be written, or not every scenario was played.
    """
    if played.problems:
        raise ToolError("lineage", "must be of all scenarios", expected="none lost", got="some")
    path = lineage_path(session.root, target=session.target)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render_lineage(lineage_of(played.recordings)), encoding="utf-8")
    except OSError as error:
        raise ToolError(str(path), "must be writable", expected="a file", got=error) from error
    return path


def _builders_called(played: AuditRun) -> dict[str, str]:
    """Return the builders that were really called, whatever the scenarios are named for."""
    return {
        f"{name} {call.call}": call.callee.partition(".")[0]
        for name, recording in played.recordings.items()
        for call in recording.trace.calls
        if call.role == "builder"
    }


def _build_verdict(session: Session, played: AuditRun, findings: AuditFindings) -> Verdict:
    changed = {name for cause in findings.new for name in cause.scenarios}
    fails = findings.new or findings.faults
    return Verdict(
        verdict="error" if played.problems else "fail" if fails else "pass",
        target=session.target,
        base={"side": "its own rules"},
        head=played.side.described,
        scenarios=ScenarioCounts(
            played=len(played.recordings),
            unchanged=len(played.recordings.keys() - changed),
            changed=len(changed),
            names_changed=tuple(sorted(changed)),
        ),
        causes=findings.new,
        problems=(*played.problems, *findings.faults),
    )
