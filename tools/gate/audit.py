"""Audit of one side: findings in its recordings, without those that are known with a reason.

``traces/baseline`` holds the known ones.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tools.errors import ToolError, require_writable_path
from tools.gate.request import GateResult, build_verdict
from tools.goldens.golden_set import uncovered_causes
from tools.session import Session
from tools.sides.parse import Side
from tools.sides.results import SideResults, no_scenario_error
from tools.sides.targets import NATIVE
from tools.workers.results import unplayable_notes
from traces.audit import audit
from traces.audit.assembly_calls import Recordings, without_refusals
from traces.audit.files import (
    known_keys,
    lineage_models,
    outdated_keys,
    parse_baseline,
    parse_lineage,
    render_lineage,
    unknown_findings,
)
from traces.audit.finding import FindingKey, finding_key
from traces.audit.grouping import group_findings, place_of_finding
from traces.audit.judgement import is_coverage
from traces.audit.lineage import lineage_of, models_of
from traces.audit.reviewed import FindingReview, parse_reviews, sort_findings
from traces.schema.verdict import Cause, Kind, Verdict
from traces.text.phrases import pluralise


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


_DECLARED = "known_findings of a pool family"


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
    sources, lineage = _read_text(lineage_path(root, target=target), root)
    entries = session.builders.values()
    recorded = parse_lineage(sources, subject=lineage, entries=entries) if sources else {}
    models = lineage_models(sources, subject=lineage) if sources else None
    known = known_findings(session)
    found = (*audit(recordings, recorded=recorded, models=models), *extra)
    causes = tuple(cause for cause in found if cause.kind not in excluded_kinds)
    baseline = {key: reason for key, reason in known.items() if key.kind not in excluded_kinds}

    def holder(key: FindingKey) -> str:
        return _DECLARED if str(key) in session.declared_findings else _baseline_name(target)

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
                    holder(key), rule, expected="it to be removed from the file", got=repr(str(key))
                )
            )
            for key in outdated_keys(causes, baseline=baseline)
        ),
    )


def known_findings(session: Session) -> dict[FindingKey, str]:
    """Return the reasons of the findings of a target that are known.

    Raises:
        ToolError: the file cannot be read.
        TraceFormatError: it does not have its format.
    """
    path = session.root / _baseline_name(session.target)
    reasons, subject = _read_text(path, session.root)
    declared = known_keys(session.declared_findings, subject=_DECLARED)
    return {**declared, **(parse_baseline(reasons, subject=subject) if reasons else {})}


def _baseline_name(target: str) -> str:
    return f"traces/baseline/{target}.toml"


def _read_text(path: Path, root: Path) -> tuple[str, str]:
    """Return the text of a file, empty without one, and its name for messages."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError(str(path), "must be readable", expected="a file", got=error) from error
    return text, path.relative_to(root).as_posix()


def run_for_audit(session: Session, side: Side, *, device: str) -> SideResults:
    """Run every scenario on a side, with round trips over all buffers that can be reached.

    A kept run stands for a scenario where there is one. New runs of a release are kept; those of
    a tree change with every edit.

    Raises:
        ToolError: the side cannot be prepared or imported, or has no scenario to run.
    """
    with session.open_audited_side(side, device=device) as opened:
        results = opened.plan(
            tuple(session.scenarios.values()),
            device=device,
            lists_builders=True,
            runs_all=False,
            keeps="all" if side.kind == "pypi" else "none",
        ).run()
    if not results.recordings and not results.problems:
        raise no_scenario_error()
    return results


@dataclass(frozen=True, slots=True, kw_only=True)
class SideAudit:
    """The audit of one side.

    Attributes:
        verdict: on the findings about the side itself; of a package one for each fault.
        findings: the same, one by one.
        coverage: findings about our scenarios, where they are not the side's own.
        notes: one line each.
    """

    verdict: Verdict
    findings: tuple[Cause, ...]
    coverage: tuple[Cause, ...]
    notes: tuple[str, ...]


def audit_side(
    session: Session, side: Side, results: SideResults, *, release: str = ""
) -> SideAudit:
    """Audit a side; ``release`` is the one its tree derives from, where the tree does not say.

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
    shown = causes = findings.new
    coverage: tuple[Cause, ...] = ()
    if session.target != NATIVE:
        coverage = tuple(cause for cause in causes if is_coverage(cause))
        causes = tuple(cause for cause in causes if not is_coverage(cause))
        served = tuple(cause for cause in causes if _is_served(cause, session))
        if len(served) < len(causes):
            number = pluralise(len(causes) - len(served), "finding")
            notes.append(f"not shown: {number} about pools that no server makes")
        reviewed = _review(session, side, served, release or side.release)
        shown, causes = reviewed.shown, reviewed.grouped
        notes += [*reviewed.notes, *_coverage_note(coverage)]
    verdict = build_verdict(
        GateResult(
            head=results.recordings,
            causes=causes,
            obstacles=results.problems,
            faults=findings.faults,
            kept=results.kept,
            selection=results.selection,
        ),
        target=session.target,
        base={"side": "its own rules"},
        head=side.described,
        strict=True,
    )
    return SideAudit(verdict=verdict, findings=shown, coverage=coverage, notes=tuple(notes))


def _is_served(cause: Cause, session: Session) -> bool:
    """Return whether a finding shows in pools that a server of the target makes."""
    known = [session.scenarios.get(name) for name in cause.scenarios]
    return not known or any(scenario is None or scenario.is_served for scenario in known)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reviewed:
    """The findings to show, one by one and one for each fault, and notes on the others."""

    shown: tuple[Cause, ...]
    grouped: tuple[Cause, ...]
    notes: tuple[str, ...]


def _review(session: Session, side: Side, causes: tuple[Cause, ...], release: str) -> _Reviewed:
    """Leave out what the reviews decide.

    Of a release its known faults are shown; of a tree that derives from it only what is new.
    """
    reviews = read_reviews(session)
    known = {name for one in reviews for name in one.releases}
    if not release or release not in known:
        of = release or "a release that the tree does not name, see --baseline"
        return _Reviewed(
            shown=causes,
            grouped=group_findings(causes, fault=place_of_finding),
            notes=(f"nothing is reviewed of {of}: every finding is shown",),
        )
    found = sort_findings(causes, reviews, release)
    wrong = {finding_key(cause): text for cause, text in found.faults}
    faults = tuple(cause for cause, _ in found.faults)
    grouped_faults = group_findings(faults, fault=lambda cause: wrong[finding_key(cause)])
    grouped = group_findings(found.open, fault=place_of_finding)
    notes = [f"not shown: {len(found.settled)} findings that are no faults of {release}"]
    numbers = pluralise(len(faults), "finding"), pluralise(len(grouped_faults), "known fault")
    of_faults = f"{' of '.join(numbers)} of {release}"
    if side.kind == "pypi":
        notes.append(f"shown: {of_faults}")
        shown, grouped = (*faults, *found.open), (*grouped_faults, *grouped)
    else:
        notes.append(f"not shown: {of_faults}")
        shown = found.open
    return _Reviewed(
        shown=shown,
        grouped=grouped,
        notes=tuple(f"{note} (traces/baseline/{session.target})" for note in notes),
    )


def read_reviews(session: Session) -> tuple[FindingReview, ...]:
    """Return the decisions on findings of the target's releases; none where there is no folder.

    Raises:
        ToolError: a file cannot be read.
        TraceFormatError: a file does not have its format.
    """
    folder = session.root / "traces" / "baseline" / session.target
    texts = [_read_text(path, session.root) for path in sorted(folder.glob("*.toml"))]
    return tuple(one for text, name in texts for one in parse_reviews(text, subject=name))


def _coverage_note(coverage: tuple[Cause, ...]) -> tuple[str, ...]:
    """Return a line on what our scenarios do not cover."""
    if not coverage:
        return ()
    numbers = Counter(cause.kind for cause in coverage)
    parameters = pluralise(numbers[Kind.PARAMETER_BLIND_SPOT], "parameter")
    builders = pluralise(numbers[Kind.UNCOVERED_BUILDER], "builder")
    methods = pluralise(numbers[Kind.UNCALLED_METHOD], "method")
    refusals = pluralise(numbers[Kind.OUTCOME_CHANGED], "refusal")
    lacking = (
        f"{parameters} without a distinctive value, {builders} without a scenario, "
        f"{methods} of pools that could not be called, {refusals} of a scenario"
    )
    return (f"coverage of our scenarios: {lacking}; --coverage lists them",)


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
