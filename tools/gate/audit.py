"""Audit of one side: findings in its recordings, without those that are known with a reason."""

from pathlib import Path

from tools.errors import ToolError, require_writable_path
from tools.gate.audit_baseline import audit_against_baseline, lineage_path
from tools.gate.request import GateResult, build_verdict
from tools.goldens.golden_set import uncovered_causes
from tools.report.phrases import pluralise
from tools.session import Session
from tools.sides.parse import Side
from tools.sides.results import SideResults, no_scenario_error
from tools.workers.results import unplayable_notes
from traces.audit import lineage_of, render_lineage
from traces.schema.verdict import Verdict


def run_for_audit(session: Session, side: Side, *, device: str) -> SideResults:
    """Run every scenario on a side, with round trips over all buffers that can be reached.

    Raises:
        ToolError: the side cannot be prepared or imported, or has no scenario to run.
    """
    with session.open_side(side, audit=True) as opened:
        results = opened.run(tuple(session.scenarios.values()), device=device)
    if not results.recordings and not results.problems:
        raise no_scenario_error()
    return results


def audit_side(
    session: Session, side: Side, results: SideResults
) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict on a side, and notes.

    Raises:
        ToolError: the baseline or the lineage cannot be read.
        TraceFormatError: such a file is not what it should be.
    """
    registry = {**session.builders, **results.called_builders}
    findings = audit_against_baseline(
        results.recordings,
        root=session.root,
        target=session.target,
        entries=session.builders.values(),
        extra=uncovered_causes(results.builders, registry=registry),
        excluded_kinds=frozenset(),
    )
    notes = [*unplayable_notes(side.text, results.unplayable)]
    if findings.known_count:
        known = pluralise(findings.known_count, "known finding")
        notes.append(f"not shown: {known} of traces/baseline/{session.target}.toml")
    verdict = build_verdict(
        GateResult(
            head=results.recordings,
            causes=findings.new,
            obstacles=results.problems,
            faults=findings.faults,
        ),
        target=session.target,
        base={"side": "its own rules"},
        head=side.described,
        strict=True,
    )
    return verdict, tuple(notes)


def write_lineage(session: Session, results: SideResults) -> Path:
    """Write where the arguments of a side come from, and return the file.

    Raises:
        ToolError: it cannot be written, or a scenario was not run to its end.
    """
    if results.problems:
        raise ToolError("lineage", "must be of all scenarios", expected="none lost", got="some")
    path = lineage_path(session.root, target=session.target)
    with require_writable_path(path, expected="a file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render_lineage(lineage_of(results.recordings)), encoding="utf-8")
    return path
