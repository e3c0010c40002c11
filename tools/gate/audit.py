"""Audit of one side: findings in its recordings, without those that are known with a reason.

``traces/baseline`` holds the known ones.
"""

from dataclasses import dataclass
from pathlib import Path

from tools.errors import ToolError, require_writable_path
from tools.gate.request import GateResult, build_verdict
from tools.goldens.golden_set import uncovered_causes
from tools.report.phrases import pluralise
from tools.session import Session
from tools.sides.parse import Side
from tools.sides.results import SideResults, no_scenario_error
from tools.workers.results import unplayable_notes
from traces.audit import audit
from traces.audit.assembly_calls import Recordings, without_refusals
from traces.audit.files import (
    lineage_models,
    outdated_keys,
    parse_baseline,
    parse_lineage,
    render_lineage,
    unknown_findings,
)
from traces.audit.lineage import lineage_of, models_of
from traces.schema.verdict import Cause, Kind, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFindings:
    """The result of an audit.

    Attributes:
        new: findings that are not known.
        known_count: number of known ones.
        unrecorded: models of which no lineage is on file.
        faults: one line for each known finding that no longer occurs.
    """

    new: tuple[Cause, ...] = ()
    known_count: int = 0
    unrecorded: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def lineage_path(root: Path, *, target: str) -> Path:
    """Return the file with the lineage of a target."""
    return root / "traces" / "lineage" / f"{target}.toml"


def audit_against_baseline(
    recordings: Recordings,
    *,
    session: Session,
    extra: tuple[Cause, ...],
    excluded_kinds: frozenset[Kind],
) -> AuditFindings:
    """Audit the whole of one side and leave out findings that are known or of excluded kinds.

    Of fewer scenarios every parameter would be a blind spot. ``extra`` are findings that do not
    come from recordings. A target may have neither baseline nor lineage.

    Raises:
        ToolError: a file cannot be read.
        TraceFormatError: a file does not have its format.
    """
    root, target = session.root, session.target
    reasons, subject = _read_text(root / "traces" / "baseline" / f"{target}.toml", root)
    sources, lineage = _read_text(lineage_path(root, target=target), root)
    entries = session.builders.values()
    recorded = parse_lineage(sources, subject=lineage, entries=entries) if sources else {}
    models = lineage_models(sources, subject=lineage) if sources else None
    known = parse_baseline(reasons, subject=subject) if reasons else {}
    known = {**session.declared_findings, **known}
    found = (*audit(recordings, recorded=recorded, models=models), *extra)
    causes = tuple(cause for cause in found if cause.kind not in excluded_kinds)
    baseline = {
        key: reason for key, reason in known.items() if key.partition(" ")[0] not in excluded_kinds
    }
    declared = session.declared_findings

    def holder(key: str) -> str:
        return "known_findings of a pool family" if key in declared else subject

    new = unknown_findings(causes, baseline=baseline)
    rule = "a known finding must still be one"
    return AuditFindings(
        new=new,
        known_count=len(causes) - len(new),
        unrecorded=()
        if models is None
        else tuple(name for name in models_of(recordings) if name not in models),
        faults=tuple(
            str(
                ToolError(
                    holder(key), rule, expected="it to be removed from the file", got=repr(key)
                )
            )
            for key in outdated_keys(causes, baseline=baseline)
        ),
    )


def _read_text(path: Path, root: Path) -> tuple[str, str]:
    """Return the text of a file, empty without one, and its name for messages."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(str(path), "must be readable", expected="a file", got=error) from error
    return text, path.relative_to(root).as_posix()


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
        session=session,
        extra=uncovered_causes(results.builders, registry=registry),
        excluded_kinds=frozenset(),
    )
    notes = [*unplayable_notes(side.text, results.unplayable)]
    if findings.known_count:
        known = pluralise(findings.known_count, "known finding")
        notes.append(f"not shown: {known} of traces/baseline/{session.target}.toml")
    if findings.unrecorded:
        names = ", ".join(findings.unrecorded)
        notes.append(f"no lineage on file, see --write-lineage: arguments in scenarios of {names}")
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
    # As an audit judges them.
    recordings = without_refusals(results.recordings)
    path = lineage_path(session.root, target=session.target)
    with require_writable_path(path, expected="a file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        text = render_lineage(lineage_of(recordings), models=models_of(recordings))
        path.write_text(text, encoding="utf-8")
    return path
