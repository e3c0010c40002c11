"""The gate: runs both sides, compares them, and checks that the goldens are in order."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from tools.errors import ToolError
from tools.gate.audit import AuditFindings, audit_against_baseline
from tools.gate.evidence import add_evidence
from tools.gate.first_difference import FirstDifference
from tools.gate.refine import RefineContext, refine_causes
from tools.gate.request import GateRequest, GateResult, judge_sides
from tools.gate.self_checks import new_failures, summarise_failures
from tools.goldens.declaration import DeclarationCheck, check_declaration
from tools.goldens.golden_set import (
    GoldenSet,
    count_coverage,
    format_causes,
    read_golden_set,
    uncovered_causes,
)
from tools.goldens.sidecars import certificate_problem
from tools.sides.kept.selection import add_unexecuted
from tools.sides.open import KeepPolicy, OpenSide, PlannedRun
from tools.sides.parse import Side
from tools.sides.results import SideResults, no_scenario_error
from tools.sides.targets import NATIVE, find_target, load_aliases
from tools.workers.results import unplayable_notes
from traces.diff import compare_sides
from traces.pytest.golden_files import orphans
from traces.schema.verdict import Cause, Kind, Verdict

# Round trips and outcomes are compared with the goldens, which may hold a known fault.
_SELF_CHECK_KINDS = frozenset({Kind.STALE_AFTER_RESTORE, Kind.OUTCOME_CHANGED})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """Both sides after their runs, and the goldens.

    Attributes:
        surplus: names of goldens without a scenario.
        causes: differences between the sides.
    """

    request: GateRequest
    base: SideResults
    head: SideResults
    golden_set: GoldenSet
    surplus: tuple[str, ...]
    causes: tuple[Cause, ...] = ()

    @property
    def failing(self) -> list[Cause]:
        """The differences that fail the gate."""
        return [cause for cause in self.causes if cause.fails(strict=self.request.strict)]


def run_gate(request: GateRequest) -> tuple[Verdict, tuple[str, ...]]:
    """Run and compare both sides; return the verdict and notes on what was not checked.

    Raises:
        ToolError: as :func:`compare_request`.
    """
    result = compare_request(request)
    return judge_sides(request, result), result.notes


def compare_request(request: GateRequest) -> GateResult:
    """Run and compare both sides; return everything that the verdict depends on.

    Raises:
        ToolError: the target cannot be imported, a revision not be checked out, or git failed.
    """
    whole, names = request.checks_golden_set, request.selection.names
    surplus = orphans(request.folder, request.selection.known) if whole else ()
    golden_set = read_golden_set(request.folder, names=(*names, *surplus))
    # Both are opened first: a side that cannot be prepared is reported before the other one runs.
    # They stay open for the second run of scenarios, in warm workers.
    with (
        _open_unless_golden(request.head, request) as open_head,
        _open_unless_golden(request.base, request) as open_base,
    ):
        base, head = _run_sides(open_base, open_head, request=request, golden_set=golden_set)
        comparison = _Comparison(
            request=request, base=base, head=head, golden_set=golden_set, surplus=surplus
        )
        context = RefineContext(
            request=request,
            base=open_base,
            head=open_head,
            recordings=(base.recordings, head.recordings),
        )
        refined, refine_notes = refine_causes(_differences(comparison), context)
        causes = add_evidence(refined, context)
    return _judge_comparison(replace(comparison, causes=causes), refine_notes=refine_notes)


def _judge_comparison(comparison: _Comparison, *, refine_notes: tuple[str, ...]) -> GateResult:
    """Return the differences together with everything else that is checked."""
    request, base, head = comparison.request, comparison.base, comparison.head
    goldens = comparison.golden_set if request.needs_goldens else GoldenSet(goldens={}, problems={})
    declaration = _check_declaration(request)
    findings = _audit_head(comparison)
    return GateResult(
        head=head.recordings,
        base=base.recordings,
        base_unplayable=base.unplayable,
        head_unplayable=head.unplayable,
        unreadable=_unreadable_goldens(comparison),
        causes=(
            *comparison.causes,
            *format_causes(goldens, root=request.session.root),
            *_uncovered_builders(comparison),
            *findings.new,
        ),
        obstacles=(
            *_empty_run_problems(comparison),
            *goldens.problems.values(),
            *base.problems,
            *head.problems,
        ),
        faults=(
            *_failed_self_checks(comparison),
            *_undeclared_goldens(declaration),
            *_edited_goldens(comparison, declaration),
            *findings.faults,
        ),
        notes=(
            *filter(None, [declaration.note]),
            *refine_notes,
            *unplayable_notes(request.base.text, base.unplayable),
            *unplayable_notes(request.head.text, head.unplayable),
            *_coverage_notes(comparison),
            *_certificate_notes(comparison),
        ),
        kept=head.kept,
        selection=head.selection,
    )


def _open_unless_golden(
    side: Side, request: GateRequest
) -> AbstractContextManager[OpenSide | None]:
    if side.kind == "golden":
        return nullcontext()
    return request.session.open_kept_side(side, device=request.device)


def _run_sides(
    open_base: OpenSide | None,
    open_head: OpenSide | None,
    *,
    request: GateRequest,
    golden_set: GoldenSet,
) -> tuple[SideResults, SideResults]:
    """Return the results of both sides, run or read.

    The base comes first: what its runs reach tells which scenarios a change of the head reaches.
    Where all of them are kept, the head's workers import while those are read.
    """
    golden = SideResults(recordings=golden_set.recordings)
    base_plan = None if open_base is None else _planned(open_base, request)
    head_plan = None
    if open_head is not None and base_plan is not None and not base_plan.missing:
        head_plan = _planned(open_head, request)
        head_plan.start_workers()
    base = golden if base_plan is None else base_plan.run()
    if open_head is None:
        return base, golden
    first = FirstDifference(base=base, request=request)
    head = (head_plan or _planned(open_head, request)).run(on_difference=first.tell)
    if open_base is None or not request.selection.is_whole:
        return base, head
    unexecuted = open_base.unexecuted(open_head, request.selection.scenarios)
    return base, replace(head, selection=add_unexecuted(head.selection, unexecuted))


def _planned(opened: OpenSide, request: GateRequest) -> PlannedRun:
    # Our own head must cover all of its builders, a package those that its base lacks.
    is_head = opened.side is request.head
    is_searched = is_head or request.session.target != NATIVE
    return opened.plan(
        request.selection.scenarios,
        device=request.device,
        lists_builders=request.checks_builders and is_searched,
        runs_all=is_head and request.runs_all,
        keeps=_keep_policy(request, is_head=is_head),
    )


def _keep_policy(request: GateRequest, *, is_head: bool) -> KeepPolicy:
    """Return which new runs are kept: a base is used again, a head changes with every edit.

    A release as head is kept as well: it is run once then, and not under both hash seeds.
    """
    if not is_head or request.head.kind == "pypi":
        return "all"
    # A package takes seconds to import under a recorder, and its base has been recorded.
    return "mostly new" if request.session.target == NATIVE and not request.runs_all else "none"


def _differences(comparison: _Comparison) -> tuple[Cause, ...]:
    """Compare the scenarios of both sides; one that a side could not run is no difference."""
    request, golden_set = comparison.request, comparison.golden_set
    base, head = comparison.base.recordings, comparison.head.recordings
    names = request.selection.names
    texts = comparison.base.texts
    # Equal texts have no difference, and a release has many long ones.
    lost = {name for name, text in comparison.head.texts.items() if texts.get(name) == text}
    lost |= _unreadable_goldens(comparison)
    for side, recordings in ((request.base, base), (request.head, head)):
        if side.kind != "golden":
            lost |= set(names) - recordings.keys()
    compared = [name for name in (*names, *comparison.surplus) if name not in lost]
    causes = compare_sides(
        {name: base[name] for name in compared if name in base},
        {name: head[name] for name in compared if name in head},
        aliases=load_aliases(find_target(request.session.target)),
    )
    if request.is_against_golden or not request.checks_golden_set:
        return causes
    goldens = golden_set.recordings
    missing = head.keys() - goldens.keys() - golden_set.problems.keys()
    return (
        *causes,
        *compare_sides(
            {name: goldens[name] for name in comparison.surplus if name in goldens},
            {name: head[name] for name in names if name in missing},
        ),
    )


def _unreadable_goldens(comparison: _Comparison) -> frozenset[str]:
    """Return the scenarios of a side that is golden whose golden cannot be read."""
    is_golden = comparison.request.is_against_golden
    return frozenset(comparison.golden_set.problems) if is_golden else frozenset()


def _empty_run_problems(comparison: _Comparison) -> tuple[str, ...]:
    unplayable = {**comparison.base.unplayable, **comparison.head.unplayable}
    if any(name not in unplayable for name in comparison.request.selection.names):
        return ()
    return (str(no_scenario_error()),)


def _audit_head(comparison: _Comparison) -> AuditFindings:
    """Audit a head without failing differences, which show more than their consequences do."""
    request, head = comparison.request, comparison.head
    session = request.session
    is_run = head.recordings.keys() == session.scenarios.keys() and request.head.kind != "golden"
    is_audited = session.target == NATIVE and request.checks_golden_set and is_run
    if not is_audited or comparison.failing:
        return AuditFindings()
    return audit_against_baseline(
        head.recordings, session=session, extra=(), excluded_kinds=_SELF_CHECK_KINDS
    )


def _uncovered_builders(comparison: _Comparison) -> tuple[Cause, ...]:
    """Return a finding for each builder that only the head has and no scenario runs."""
    base, head = comparison.base, comparison.head
    new = tuple(name for name in head.builders if name not in base.builders)
    return uncovered_causes(
        new, registry={**comparison.request.session.builders, **head.called_builders}
    )


def _coverage_notes(comparison: _Comparison) -> tuple[str, ...]:
    request, base = comparison.request, comparison.base
    if request.checks_golden_set and request.head.kind == "golden":
        return ("the head is golden: nothing was searched for builders that no scenario runs",)
    registry = {**request.session.builders, **base.called_builders}
    counts = count_coverage(base.builders, registry=registry)
    uncovered = [name for name, number in counts.items() if not number]
    if uncovered:
        return (f"no scenario runs {', '.join(uncovered)} of {request.base.text}",)
    return ()


def _certificate_notes(comparison: _Comparison) -> tuple[str, ...]:
    if not comparison.request.checks_golden_set:
        return ()
    contents = {name: golden.content for name, golden in comparison.golden_set.goldens.items()}
    note = certificate_problem(comparison.request.folder, contents=contents)
    return (note,) if note else ()


def _failed_self_checks(comparison: _Comparison) -> tuple[str, ...]:
    """Return the failed checks of the head's own traces, unless known or in a failing scenario.

    Those of scenarios that the base cannot run come last, and of many only their number.
    """
    request, base, head = comparison.request, comparison.base, comparison.head
    visible = {name for cause in comparison.failing for name in cause.scenarios}
    known = {name: golden.trace for name, golden in comparison.golden_set.goldens.items()}
    if request.session.target != NATIVE:
        # Faults of a package are not new where its base has them too.
        known |= {name: recording.trace for name, recording in base.recordings.items()}
    failures = new_failures(
        {name: head.recordings[name].trace for name in head.recordings if name not in visible},
        known=known,
    )
    compared = [line for name in failures if name not in base.unplayable for line in failures[name]]
    alone = {name: failures[name] for name in failures if name in base.unplayable}
    side = (request.session.target, request.head.text)
    return (*compared, *summarise_failures(alone, lacking=request.base.text, side=side))


def _check_declaration(request: GateRequest) -> DeclarationCheck:
    if not request.pre_merge or not request.session.has_goldens:
        return DeclarationCheck(changed=(), undeclared=(), note="")
    return check_declaration(request.session.root, folder=request.folder)


def _undeclared_goldens(declaration: DeclarationCheck) -> tuple[str, ...]:
    rule = "a changed golden must be declared in CHANGELOG.md"
    expected = "`- NAME: reason` under Unreleased > Goldens"
    return tuple(
        str(ToolError(name, rule, expected=expected, got="none")) for name in declaration.undeclared
    )


def _edited_goldens(comparison: _Comparison, declaration: DeclarationCheck) -> tuple[str, ...]:
    """Return a fault for each changed golden that the work tree does not yield, at any level.

    An unchanged golden may differ at interface level: that is what a refactor does.
    """
    request, head = comparison.request, comparison.head
    if request.base.kind != "golden" or request.head.kind != "worktree":
        return ()
    failing = {name for cause in comparison.failing for name in cause.scenarios}
    goldens = comparison.golden_set.goldens
    rule = "a changed golden must be what `goldentrace regenerate` writes"
    return tuple(
        str(ToolError(name, rule, expected="the trace of the work tree", got="other bytes"))
        for name in declaration.changed
        if name in goldens and name in head.recordings and name not in failing
        if goldens[name].trace != head.recordings[name].trace
    )
