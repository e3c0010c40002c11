"""The ``mutate`` command: mutants or refactors are generated, run and reported."""

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from tools.console import print_status, progress
from tools.errors import EXIT_INTERRUPTED, ToolError
from tools.mutation.campaign.driver import (
    BaselineRun,
    CampaignPlan,
    check_baseline,
    run_baseline,
    run_campaign,
)
from tools.mutation.campaign.journal import open_journal
from tools.mutation.campaign.kept_baseline import keep, kept_path, read_kept
from tools.mutation.campaign.neutral_driver import measure_false_alarms
from tools.mutation.campaign.ray_executor import open_ray_executor
from tools.mutation.campaign.tasks import RunSettings
from tools.mutation.generator import MutantDraft, MutationScope, draft_mutants, make_mutants
from tools.mutation.mutant import Mutant
from tools.mutation.operators import GENERIC, GROUPS, OPERATORS
from tools.mutation.release import ALL_KINDS, KINDS
from tools.mutation.release.scope import release_scope
from tools.mutation.release.selection import UnexecutedSites, draft_files, select_drafts
from tools.mutation.report.render import (
    MutationReportFormat,
    render_false_alarms,
    render_statistics,
)
from tools.mutation.report.statistics import compute_statistics
from tools.mutation.report.survivors import read_explained_survivors
from tools.mutation.scopes import DEVICES, scope_of
from tools.mutation.source.signatures import SourceTree
from tools.mutation.source.source_tree import read_unit
from tools.sides.environments.cache import PreparedSide
from tools.sides.environments.trees import read_release
from tools.sides.targets import NATIVE
from tools.workers.launch import WorkerLauncher
from tools.workers.pool import WorkerPool, core_count
from tools.workers.protocol import TaskExecutor
from traces.targets.common.scenario import Scenario

FILES_PER_STACK = 6
START_LIMIT_SECONDS = 300.0
TASK_LIMIT_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MutationRequest:
    """The options of the command.

    Attributes:
        root: the checkout, for its explained survivors.
        side: the side as it was named.
        operators: names of operators and groups; empty for all but the generic ones.
        kinds: names of kinds of faults of releases, instead of operators.
        file_parts: only mutants of paths with one of these parts; empty for all.
        sample: number of mutants, drawn with ``seed``; None for all.
        scenarios_max: scenarios that a mutant is run on at most; None for all that execute it.
        neutral: number of stacks of harmless refactors, instead of mutants.
        device: None for the default of the target.
        ray: ``local`` or the address of a Ray cluster; None for processes of this machine.
        workers: number of worker processes; None for one per core.
    """

    root: Path
    target: str
    side: str
    scenarios: Mapping[str, Scenario]
    operators: tuple[str, ...]
    kinds: tuple[str, ...]
    file_parts: tuple[str, ...]
    sample: int | None
    seed: int
    scenarios_max: int | None
    neutral: int | None
    device: str | None
    limit_seconds: float
    journal: Path | None
    ray: str | None
    workers: int | None
    form: MutationReportFormat

    def takes(self, file: str) -> bool:
        """Return whether mutants of a file are wanted."""
        return not self.file_parts or any(part in file for part in self.file_parts)


def run_mutation(request: MutationRequest, place: PreparedSide) -> tuple[int, str]:
    """Run a campaign; return the exit code and the report.

    Raises:
        ToolError: an option makes no sense, no mutant is generated, or a control fails.
    """
    plan = _build_plan(request, place.root)
    if request.neutral is not None:
        return _run_neutral(request, plan, place)
    drafts = _draft_mutants(request, plan)
    with _open_executor(request, _build_launcher(request, place)) as executor:
        baseline = _baseline_of(plan, executor)
        chosen = drafts
        unexecuted: tuple[UnexecutedSites, ...] = ()
        if request.kinds:
            chosen, unexecuted = select_drafts(drafts, baseline.reached, seed=request.seed)
        plan = replace(plan, mutants=tuple(_make_mutants(request, plan, chosen)))
        return _run_mutants(request, plan, executor, baseline, unexecuted=unexecuted)


def _build_plan(request: MutationRequest, root: Path) -> CampaignPlan:
    is_generic = any(name in GENERIC for name in _operator_names(request))
    # Lines of all files of a release, so that every campaign has the same results to begin with.
    scope = _scope(request, root) if request.target == NATIVE else release_scope(root)
    return CampaignPlan(
        root=root,
        target=request.target,
        files=scope.files,
        mutants=(),
        scenarios=request.scenarios,
        settings=RunSettings(
            device=request.device or DEVICES[request.target],
            limit_seconds=request.limit_seconds,
            is_gate=is_generic,
        ),
        scenarios_max=request.scenarios_max,
        files_per_stack=None if request.target == NATIVE else FILES_PER_STACK,
    )


def _scope(request: MutationRequest, root: Path) -> MutationScope:
    if (request.kinds or request.neutral is not None) and request.target != NATIVE:
        return release_scope(root)
    is_generic = any(name in GENERIC for name in _operator_names(request))
    return scope_of(request.target, root, is_generic=is_generic)


def _operator_names(request: MutationRequest) -> list[str]:
    """Return the names of the operators that are not kinds of faults of releases.

    Raises:
        ToolError: there is no such operator or kind, or some cannot be together.
    """
    if request.kinds:
        if unknown := [name for name in request.kinds if name not in (*KINDS, ALL_KINDS)]:
            expected = ", ".join((ALL_KINDS, *KINDS))
            raise ToolError("--kind", "must be known", expected=expected, got=repr(unknown[0]))
        if request.operators:
            rule, given = "must not be given with operators", ", ".join(request.operators)
            raise ToolError("--kind", rule, expected="one of the two options", got=given)
        return []
    chosen = request.operators or ("default",)
    names = [name for given in chosen for name in GROUPS.get(given, (given,))]
    if unknown := [name for name in names if name not in OPERATORS]:
        expected = ", ".join((*OPERATORS, *GROUPS))
        raise ToolError("--operator", "must be known", expected=expected, got=repr(unknown[0]))
    is_generic = any(name in GENERIC for name in names)
    if is_generic and not all(name in GENERIC for name in names):
        rule = "generic ones, judged as the gate does, must be alone"
        raise ToolError("--operator", rule, expected=", ".join(GENERIC), got=", ".join(names))
    return names


def _draft_mutants(request: MutationRequest, plan: CampaignPlan) -> list[MutantDraft]:
    """Return what may be mutated.

    Raises:
        ToolError: there is nothing; known before anything is run.
    """
    scope = _scope(request, plan.root)
    if request.kinds:
        # Their operators look at one file at a time, others need the signatures of all.
        files = tuple(file for file in scope.files if request.takes(file))
        scope = replace(scope, files=files)
        names = list(KINDS) if ALL_KINDS in request.kinds else list(request.kinds)
        workers = request.workers or core_count()
        kinds = {name: KINDS[name] for name in names}
        found = draft_files(plan.root, scope, kinds, workers=workers)
    else:
        tree = SourceTree([read_unit(plan.root, file) for file in scope.files])
        names = _operator_names(request)
        found = list(draft_mutants(tree, scope, {name: OPERATORS[name] for name in names}))
    drafts = [one for one in found if request.takes(one.changed_ranges[0].file)]
    _require(drafts)
    return drafts


def _make_mutants(
    request: MutationRequest, plan: CampaignPlan, drafts: list[MutantDraft]
) -> list[Mutant]:
    """Return the mutants to be run.

    Raises:
        ToolError: there is none.
    """
    files = {file for draft in drafts for file in draft.edits}
    sources = {file: (plan.root / file).read_bytes() for file in files}
    if request.kinds:
        # They are in random order already: the texts of a whole release would not fit in memory.
        found = make_mutants(drafts, sources, number=request.sample)
    else:
        found = _sample(request, make_mutants(drafts, sources))
    _require(found)
    return found


def _require(found: Sequence[object]) -> None:
    if not found:
        raise ToolError("mutants", "must be made", expected="at least one", got=0)


def _sample(request: MutationRequest, found: list[Mutant]) -> list[Mutant]:
    if request.sample is None or request.sample >= len(found):
        return found
    drawn = random.Random(request.seed).sample(range(len(found)), len(found))
    if all(one.operator in GENERIC for one in found):
        # As many of each operator: attributes and statements are far more than comparisons.
        turns: Counter[str] = Counter()
        ranks = {}
        for index in drawn:
            turns[found[index].operator] += 1
            ranks[index] = turns[found[index].operator]
        drawn.sort(key=ranks.__getitem__)
    return [found[index] for index in sorted(drawn[: request.sample])]


def _baseline_of(plan: CampaignPlan, executor: TaskExecutor) -> BaselineRun:
    """Return the scenarios run on the unchanged code, now or in an earlier campaign."""
    path = kept_path(plan)
    kept = read_kept(path)
    if kept is not None:
        print_status(f"code as it is: kept in {path}")
        return kept
    start = time.perf_counter()
    with progress("playing the code as it is", total=len(plan.scenarios)) as on_finished:
        baseline = run_baseline(plan, executor, on_finished=on_finished)
    print_status(f"code as it is: {time.perf_counter() - start:.1f} s")
    baseline = check_baseline(plan, executor, baseline)
    print_status(f"with controls: {time.perf_counter() - start:.1f} s")
    keep(path, baseline)
    return baseline


def _build_launcher(
    request: MutationRequest, place: PreparedSide, *, refactors: bool = False
) -> WorkerLauncher:
    is_native = request.target == NATIVE
    release = "SglangRefactorWorker" if refactors else "SglangMutationWorker"
    name = "NativeMutationWorker" if is_native else release
    return place.launcher(f"tools.mutation.worker.worker:{name}", isolated=not is_native)


def _open_executor(
    request: MutationRequest, launcher: WorkerLauncher
) -> AbstractContextManager[TaskExecutor]:
    if request.ray is not None:
        return open_ray_executor(
            launcher, address=request.ray, size=request.workers, limit_seconds=TASK_LIMIT_SECONDS
        )
    return WorkerPool(
        launcher=launcher,
        size=request.workers or core_count(),
        limit_seconds=TASK_LIMIT_SECONDS,
        start_limit_seconds=START_LIMIT_SECONDS,
    )


def _run_mutants(
    request: MutationRequest,
    plan: CampaignPlan,
    executor: TaskExecutor,
    baseline: BaselineRun,
    *,
    unexecuted: tuple[UnexecutedSites, ...],
) -> tuple[int, str]:
    start = time.perf_counter()
    with (
        open_journal(request.journal, campaign=plan.digest) as journal,
        progress("judging mutants", total=len(plan.mutants)) as on_finished,
    ):
        results = run_campaign(plan, executor, journal, baseline=baseline, on_finished=on_finished)
    work = sum(result.seconds for result in results)
    print_status(f"mutants: {time.perf_counter() - start:.1f} s, {work:.1f} s of work")
    found = compute_statistics(
        results,
        target=plan.target,
        side=request.side,
        explained=read_explained_survivors(request.root, release=read_release(plan.root)),
        unexecuted=unexecuted,
        notes=tuple(
            f"not played: {name}: {why}" for name, why in sorted(baseline.unsupported.items())
        ),
    )
    code = 1 if found.unexplained or found.stale else 0
    return code, render_statistics(found, form=request.form)


def _run_neutral(
    request: MutationRequest, plan: CampaignPlan, place: PreparedSide
) -> tuple[int, str]:
    assert request.neutral is not None
    seeds = range(request.seed, request.seed + request.neutral)
    with _open_executor(request, _build_launcher(request, place)) as executor:
        baseline = _baseline_of(plan, executor)
    # Refactored code of a release is imported, so these workers must not have imported it.
    launcher = _build_launcher(request, place, refactors=True)
    with (
        _open_executor(request, launcher) as executor,
        progress("judging stacks", total=len(seeds)) as on_finished,
    ):
        found = measure_false_alarms(
            plan, executor, baseline=baseline, seeds=seeds, on_finished=on_finished
        )
    code = 0 if found.stacks == found.asked else EXIT_INTERRUPTED
    return 1 if found.alarms else code, render_false_alarms(found, form=request.form)
