"""The ``mutate`` command: mutants or refactors are generated, run and reported."""

import random
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tools.console import print_status, progress
from tools.errors import ToolError
from tools.mutation.campaign.driver import BaselineRun, CampaignPlan, run_baseline, run_campaign
from tools.mutation.campaign.journal import open_journal
from tools.mutation.campaign.neutral_driver import measure_false_alarms
from tools.mutation.campaign.ray_executor import open_ray_executor
from tools.mutation.campaign.tasks import RunSettings
from tools.mutation.generator import generate_mutants
from tools.mutation.mutant import Mutant
from tools.mutation.operators import GENERIC, GROUPS, OPERATORS
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
from tools.sides.targets import NATIVE
from tools.workers.launch import WorkerLauncher
from tools.workers.pool import WorkerPool, core_count
from tools.workers.protocol import TaskExecutor
from traces.targets.common.scenario import Scenario

START_LIMIT_SECONDS = 300.0
TASK_LIMIT_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MutationRequest:
    """The options of the command.

    Attributes:
        root: the checkout, for its explained survivors.
        side: the side as it was named.
        operators: names of operators and groups; empty for all but the generic ones.
        file_part: only mutants of paths with this part.
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
    file_part: str
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


def run_mutation(request: MutationRequest, place: PreparedSide) -> tuple[int, str]:
    """Run a campaign; return the exit code and the report.

    Raises:
        ToolError: an option makes no sense, no mutant is generated, or a control fails.
    """
    plan = _build_plan(request, place.root)
    with _open_executor(request, _build_launcher(request, place)) as executor:
        start = time.perf_counter()
        with progress("playing the code as it is", total=len(plan.scenarios)) as on_finished:
            baseline = run_baseline(plan, executor, on_finished=on_finished)
        print_status(f"code as it is: {time.perf_counter() - start:.1f} s")
        if request.neutral is not None:
            return _run_neutral(request, plan, executor, baseline)
        return _run_mutants(request, plan, executor, baseline)


def _build_plan(request: MutationRequest, root: Path) -> CampaignPlan:
    chosen = request.operators or ("default",)
    names = [name for given in chosen for name in GROUPS.get(given, (given,))]
    if unknown := [name for name in names if name not in OPERATORS]:
        expected = ", ".join((*OPERATORS, *GROUPS))
        raise ToolError("--operator", "must be known", expected=expected, got=repr(unknown[0]))
    is_generic = any(name in GENERIC for name in names)
    if is_generic and not all(name in GENERIC for name in names):
        rule = "generic ones, judged as the gate does, must be alone"
        raise ToolError("--operator", rule, expected=", ".join(GENERIC), got=", ".join(names))
    if request.neutral is not None and request.target != NATIVE:
        rule = "harmless refactors must be of our own code"
        raise ToolError("--neutral", rule, expected=NATIVE, got=request.target)
    scope = scope_of(request.target, root, is_generic=is_generic)
    mutants: list[Mutant] = []
    if request.neutral is None:
        tree = SourceTree([read_unit(root, file) for file in scope.files])
        found = generate_mutants(tree, scope, {name: OPERATORS[name] for name in names})
        mutants = _select_mutants(request, found)
    return CampaignPlan(
        root=root,
        target=request.target,
        files=scope.files,
        mutants=tuple(mutants),
        scenarios=request.scenarios,
        settings=RunSettings(
            device=request.device or DEVICES[request.target],
            limit_seconds=request.limit_seconds,
            is_gate=is_generic,
        ),
        scenarios_max=request.scenarios_max,
    )


def _select_mutants(request: MutationRequest, mutants: list[Mutant]) -> list[Mutant]:
    found = [one for one in mutants if request.file_part in one.changed_ranges[0].file]
    if not found:
        raise ToolError("mutants", "must be made", expected="at least one", got=0)
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


def _build_launcher(request: MutationRequest, place: PreparedSide) -> WorkerLauncher:
    is_native = request.target == NATIVE
    name = "NativeMutationWorker" if is_native else "SglangMutationWorker"
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
    request: MutationRequest, plan: CampaignPlan, executor: TaskExecutor, baseline: BaselineRun
) -> tuple[int, str]:
    start = time.perf_counter()
    with (
        open_journal(request.journal, campaign=plan.digest) as journal,
        progress("judging mutants", total=len(plan.mutants), with_eta=True) as on_finished,
    ):
        results = run_campaign(plan, executor, journal, baseline=baseline, on_finished=on_finished)
    work = sum(result.seconds for result in results)
    print_status(f"mutants: {time.perf_counter() - start:.1f} s, {work:.1f} s of work")
    found = compute_statistics(
        results,
        target=plan.target,
        side=request.side,
        explained=read_explained_survivors(request.root),
        notes=tuple(
            f"not played: {name}: {why}" for name, why in sorted(baseline.unsupported.items())
        ),
    )
    code = 1 if found.unexplained or found.stale else 0
    return code, render_statistics(found, form=request.form)


def _run_neutral(
    request: MutationRequest, plan: CampaignPlan, executor: TaskExecutor, baseline: BaselineRun
) -> tuple[int, str]:
    assert request.neutral is not None
    seeds = range(request.seed, request.seed + request.neutral)
    with progress("judging stacks", total=len(seeds), with_eta=True) as on_finished:
        found = measure_false_alarms(
            plan, executor, baseline=baseline, seeds=seeds, on_finished=on_finished
        )
    return (1 if found.alarms else 0), render_false_alarms(found, form=request.form)
