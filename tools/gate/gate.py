"""The verdict on a change: what differs between two sides, and whether the goldens are in order."""

from collections.abc import Iterable

from tools.errors import ToolError
from tools.gate.audit_baseline import NO_FINDINGS, AuditFindings, audit_against_baseline
from tools.gate.refine import RefineContext, refine_causes
from tools.gate.request import GateRequest, GateResult, judge_sides
from tools.gate.self_checks import new_failures, summarise_failures
from tools.gate.severity import fails_gate
from tools.gate.side_results import (
    RunnerFactory,
    SideResults,
    load_goldens,
    prepare_unless_golden,
    run_side,
)
from tools.goldens.certificate import certificate_problem
from tools.goldens.declaration import check_declaration
from tools.goldens.golden_set import (
    GoldenSet,
    count_coverage,
    format_causes,
    read_golden_set,
    uncovered_causes,
)
from tools.sides.parse import Side
from tools.sides.prepare import PreparedSide
from tools.sides.targets import NATIVE, find_target, load_aliases
from tools.workers.results import unplayable_notes
from traces.diff import compare_sides
from traces.pytest.golden_files import orphans
from traces.schema.model import Recording
from traces.schema.verdict import Cause, Kind, Verdict

# What round trips and outcomes say is held against the goldens, which may know it.
_SELF_CHECK_KINDS = frozenset({Kind.STALE_AFTER_RESTORE, Kind.OUTCOME_CHANGED})


def run_gate(
    request: GateRequest, *, open_runner: RunnerFactory
) -> tuple[Verdict, tuple[str, ...]]:
    """Play and compare; return the verdict and notes on what was not asked.

    Raises:
        ToolError: the target cannot be imported, a revision not be checked out, git not be asked.
    """
    evidence = collect_result(request, open_runner=open_runner)
    return judge_sides(request, evidence), evidence.notes


def collect_result(request: GateRequest, *, open_runner: RunnerFactory) -> GateResult:
    """Play what must be played, read what must be read, and compare.

    Raises:
        ToolError: the target cannot be imported, a revision not be checked out, git not be asked.
    """
    surplus = orphans(request.folder, request.scenarios) if _checks_golden_set(request) else ()
    stock = read_golden_set(request.folder, names=(*request.names, *surplus))
    # Both first: a side that cannot be had is told before the other one is played.
    with (
        prepare_unless_golden(request.head, root=request.root, python=request.python) as head_place,
        prepare_unless_golden(request.base, root=request.root, python=request.python) as base_place,
    ):
        head = _side_results(
            request.head, head_place, request=request, golden_set=stock, open_runner=open_runner
        )
        base = _side_results(
            request.base, base_place, request=request, golden_set=stock, open_runner=open_runner
        )
    differences = _differences(request, base=base, head=head, golden_set=stock, surplus=surplus)
    differences, looks = refine_causes(
        differences,
        RefineContext(
            request=request,
            recordings=(base.recordings, head.recordings),
            open_runner=open_runner,
        ),
    )
    unreadable = tuple(stock.problems.values()) if _needs_goldens(request) else ()
    undeclared, notes = _undeclared_goldens(request)
    findings = _audit_head(request, head=head, differences=differences)
    return GateResult(
        head=head.recordings,
        base_unplayable=base.unplayable,
        head_unplayable=head.unplayable,
        causes=(
            *differences,
            *(format_causes(stock, root=request.root) if _needs_goldens(request) else ()),
            *uncovered_causes(
                _new_builders(base=base, head=head), registry=_builders_reached(request, head)
            ),
            *findings.new,
        ),
        obstacles=(
            *_empty_run_problems(request, base=base, head=head),
            *unreadable,
            *base.problems,
            *head.problems,
        ),
        faults=(
            *_failed_self_checks(
                request, base=base, head=head, causes=differences, golden_set=stock
            ),
            *undeclared,
            *findings.faults,
        ),
        notes=(
            *notes,
            *looks,
            *unplayable_notes(request.base.text, base.unplayable),
            *unplayable_notes(request.head.text, head.unplayable),
            *_coverage_notes(request, base=base),
            *_certificate_notes(request, golden_set=stock),
        ),
    )


def _checks_golden_set(request: GateRequest) -> bool:
    return _checks_builders(request) and request.has_goldens


def _checks_builders(request: GateRequest) -> bool:
    return request.pre_merge and request.is_whole


def _needs_goldens(request: GateRequest) -> bool:
    by_golden = "golden" in (request.base.kind, request.head.kind)
    return by_golden or (request.pre_merge and request.has_goldens)


def _empty_run_problems(
    request: GateRequest, *, base: SideResults, head: SideResults
) -> tuple[str, ...]:
    if any(name not in {**base.unplayable, **head.unplayable} for name in request.names):
        return ()
    return (str(ToolError("scenarios", "must be played", expected="at least one", got=0)),)


def _audit_head(
    request: GateRequest, *, head: SideResults, differences: Iterable[Cause]
) -> AuditFindings:
    """Audit a head that has nothing else against it: differences say more than what they break."""
    is_whole = head.recordings.keys() == request.scenarios.keys() and request.head.kind != "golden"
    fails_anyway = any(fails_gate(cause, strict=request.strict) for cause in differences)
    if request.target != NATIVE or not _checks_golden_set(request) or not is_whole or fails_anyway:
        return NO_FINDINGS
    return audit_against_baseline(
        head.recordings,
        root=request.root,
        target=request.target,
        entries=request.builders.values(),
        extra=(),
        excluded_kinds=_SELF_CHECK_KINDS,
    )


def _new_builders(*, base: SideResults, head: SideResults) -> tuple[str, ...]:
    """Return builders of the head that its base did not have as well, as far as that was asked."""
    return tuple(name for name in head.builders if name not in base.builders)


def _builders_reached(request: GateRequest, testimony: SideResults) -> dict[str, str]:
    """Return what plays a builder: a scenario that is named for it, or one that really called it.

    A package has builders that others call and strategies that are chosen; releases rename them.
    """
    reached = dict(request.builders)
    for name, recording in testimony.recordings.items():
        for call in recording.trace.calls:
            if call.role == "builder":
                reached[f"{name} {call.call}"] = call.callee.partition(".")[0]
    return reached


def _coverage_notes(request: GateRequest, *, base: SideResults) -> tuple[str, ...]:
    if _checks_golden_set(request) and request.head.kind == "golden":
        return ("the head is golden: nothing was searched for builders that no scenario plays",)
    uncovered = [
        name
        for name, number in count_coverage(
            base.builders, registry=_builders_reached(request, base)
        ).items()
        if not number
    ]
    if uncovered:
        return (f"no scenario plays {', '.join(uncovered)} of {request.base.text}",)
    return ()


def _certificate_notes(request: GateRequest, *, golden_set: GoldenSet) -> tuple[str, ...]:
    if not _checks_golden_set(request):
        return ()
    contents = {name: golden.content for name, golden in golden_set.goldens.items()}
    note = certificate_problem(request.folder, contents=contents)
    return (note,) if note else ()


def _side_results(
    side: Side,
    place: PreparedSide | None,
    *,
    request: GateRequest,
    golden_set: GoldenSet,
    open_runner: RunnerFactory,
) -> SideResults:
    if place is None:
        return load_goldens(golden_set)
    return run_side(
        side,
        place,
        scenarios=request.selected_scenarios,
        device=request.device,
        lists_builders=_checks_builders_of(side, request=request),
        open_runner=open_runner,
    )


def _checks_builders_of(side: Side, *, request: GateRequest) -> bool:
    """Tell whether to search a side: our own code must cover all, a package what its base lacks."""
    return _checks_builders(request) and (side is request.head or request.target != NATIVE)


def _differences(
    request: GateRequest,
    *,
    base: SideResults,
    head: SideResults,
    golden_set: GoldenSet,
    surplus: tuple[str, ...],
) -> tuple[Cause, ...]:
    """Compare what both sides could tell; a scenario that one could not play is no difference."""
    asked = (*request.names, *surplus)
    lost = _scenarios_not_run(request.base, base, request) | _scenarios_not_run(
        request.head, head, request
    )
    by_golden = "golden" in (request.base.kind, request.head.kind)
    lost |= golden_set.problems.keys() if by_golden else frozenset()
    causes = compare_sides(
        {name: base.recordings[name] for name in asked if name in base.recordings.keys() - lost},
        {name: head.recordings[name] for name in asked if name in head.recordings.keys() - lost},
        aliases=load_aliases(find_target(request.target)),
    )
    if by_golden or not _checks_golden_set(request):
        return causes
    goldens = {name: golden for name, golden in golden_set.goldens.items() if name in surplus}
    missing = head.recordings.keys() - golden_set.goldens.keys() - golden_set.problems.keys()
    return (
        *causes,
        *compare_sides(
            {name: Recording(trace=golden.trace, sites=None) for name, golden in goldens.items()},
            {name: head.recordings[name] for name in request.names if name in missing},
        ),
    )


def _scenarios_not_run(side: Side, testimony: SideResults, request: GateRequest) -> frozenset[str]:
    if side.kind == "golden":
        return frozenset()
    return frozenset(request.names) - testimony.recordings.keys()


def _failed_self_checks(
    request: GateRequest,
    *,
    base: SideResults,
    head: SideResults,
    causes: Iterable[Cause],
    golden_set: GoldenSet,
) -> tuple[str, ...]:
    """Return what the head itself says is wrong, unless it is known or the head fails anyway.

    What the base cannot play comes last, and of many such lines only their number.
    """
    failing = [cause for cause in causes if fails_gate(cause, strict=request.strict)]
    visible = {name for cause in failing for name in cause.scenarios}
    known = {name: golden.trace for name, golden in golden_set.goldens.items()}
    if request.target != NATIVE:
        # A package's own faults are no news where its base has them too.
        known |= {name: recording.trace for name, recording in base.recordings.items()}
    news = new_failures(
        {name: head.recordings[name].trace for name in head.recordings if name not in visible},
        known=known,
    )
    compared = [line for name in news if name not in base.unplayable for line in news[name]]
    alone = {name: news[name] for name in news if name in base.unplayable}
    side = (request.target, request.head.text)
    return (*compared, *summarise_failures(alone, lacking=request.base.text, side=side))


def _undeclared_goldens(request: GateRequest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not request.pre_merge or not request.has_goldens:
        return (), ()
    declaration = check_declaration(request.root, folder=request.folder)
    rule = "a changed golden must be declared in CHANGELOG.md"
    expected = "`- NAME: reason` under Unreleased > Goldens"
    faults = tuple(
        str(ToolError(name, rule, expected=expected, got="none")) for name in declaration.undeclared
    )
    return faults, (declaration.note,) if declaration.note else ()
