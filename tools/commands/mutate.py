"""``mutate``: how much the net catches, and how quiet it is."""

import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from tools.console import print_duration, print_status
from tools.errors import ToolError
from tools.options import (
    PythonOption,
    SideOption,
    TargetOption,
    TimeoutOption,
    parse_interpreter,
    session_factory,
    side_or_default,
)
from tools.progress import progress
from tools.session import parse_device
from tools.sides.parse import parse_side
from tools.sides.prepare import PreparedSide, prepare_side
from tools.sides.targets import NATIVE
from tools.workers.launch import IsolatedLauncher, SpawnLauncher, WorkerLauncher
from tools.workers.pool import core_count

if TYPE_CHECKING:
    from tools.mutation.campaign.driver import BaselineRun, CampaignPlan
    from tools.mutation.campaign.executors import Executor
    from tools.mutation.report.render import MutationReportFormat
    from traces.targets.common.scenario import Scenario

SCENARIO_LIMIT_SECONDS = 60.0
TASK_LIMIT_SECONDS = 1800.0

OperatorOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--operator", metavar="NAME", help="Only this operator; may be repeated."),
]
FileOption: TypeAlias = Annotated[
    str, typer.Option("--file", metavar="PART", help="Only mutants of paths with this part.")
]
SampleOption: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Only so many mutants, drawn with --seed.")
]
MostOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--most", min=1, metavar="N", help="Scenarios a mutant is played on; all that reach it."
    ),
]
JournalOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--journal", metavar="FILE", help="Results as they come; a re-run goes on."),
]
WorkersOption: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Worker processes; one for each core.")
]
RayOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--ray", metavar="local|ADDRESS", help="Spread over a Ray cluster."),
]
FiguresFormatOption: TypeAlias = Annotated[
    str, typer.Option("--format", metavar="text|json|markdown", help="Form of the figures.")
]


def mutate(
    context: typer.Context,
    *,
    operator: OperatorOption = None,
    file: FileOption = "",
    sample: SampleOption = None,
    most: MostOption = None,
    seed: Annotated[int, typer.Option(help="Of samples and of neutral stacks.")] = 0,
    neutral: Annotated[
        int | None,
        typer.Option(min=1, metavar="STACKS", help="Judge random stacks of harmless refactors."),
    ] = None,
    journal: JournalOption = None,
    workers: WorkersOption = None,
    ray: RayOption = None,
    target: TargetOption = NATIVE,
    side: SideOption = None,
    python: PythonOption = None,
    form: FiguresFormatOption = "text",
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="Play all of it there."),
    ] = None,
    timeout: TimeoutOption = SCENARIO_LIMIT_SECONDS,
) -> None:
    """Measure the net with mutants: each makes one small fault that a refactor can make.

    A mutant is played on the scenarios that reach it, and killed by the gate's own comparison with
    the code as it is. Exit 1 when a survivor is not explained in tools/mutation/survivors.toml.
    With --neutral, random stacks of harmless refactors are judged: any alarm is a false one.
    """
    from tools.mutation.report.render import MutationReportFormat
    from tools.mutation.scopes import devices_of

    if form not in list(MutationReportFormat):
        raise ToolError(
            "--format", "must be known", expected=", ".join(MutationReportFormat), got=repr(form)
        )
    desk = session_factory(context)(target=target, limit_seconds=timeout)
    named = side_or_default("worktree", side, option="--side", target=target)
    parsed = parse_side(named, root=desk.root, target=target)
    interpreted = parse_interpreter(python, target=target)
    with ExitStack() as stack:
        stack.enter_context(print_duration())
        place = stack.enter_context(prepare_side(parsed, root=desk.root, python=interpreted))
        plan = _build_plan(
            place.root,
            target=target,
            scenarios=desk.scenarios,
            operators=operator or [],
            part=file,
            sample=sample,
            seed=seed,
            limit_seconds=timeout,
            most=most,
            devices=devices_of(target) if device is None else {"": parse_device(device)},
            is_neutral=neutral is not None,
        )
        launcher = _build_launcher(target, place, spreads=ray is not None)
        executor = stack.enter_context(_open_executor(launcher, ray=ray, workers=workers))
        start = time.perf_counter()
        stand = _run_baseline(plan, executor)
        print_status(f"code as it is: {time.perf_counter() - start:.1f} s")
        if neutral is not None:
            code = _run_neutral_stacks(
                plan, executor, stand, seed=seed, stacks=neutral, form=MutationReportFormat(form)
            )
        else:
            code = _run_campaign(
                plan,
                executor,
                stand,
                journal=journal,
                side=named,
                form=MutationReportFormat(form),
                root=desk.root,
            )
    raise typer.Exit(code)


def _build_plan(
    root: Path,
    *,
    target: str,
    scenarios: "Mapping[str, Scenario]",
    operators: Sequence[str],
    part: str,
    sample: int | None,
    seed: int,
    limit_seconds: float,
    most: int | None,
    devices: dict[str, str],
    is_neutral: bool,
) -> "CampaignPlan":
    from tools.mutation.campaign.driver import CampaignPlan
    from tools.mutation.generator import generate_mutants
    from tools.mutation.operators import OPERATORS
    from tools.mutation.scopes import scope_of
    from tools.mutation.source.source_tree import SourceTree, read_unit

    for name in operators:
        if name not in OPERATORS:
            expected = ", ".join(OPERATORS)
            raise ToolError("--operator", "must be known", expected=expected, got=repr(name))
    scope = scope_of(target, root)
    chosen = {name: OPERATORS[name] for name in operators or OPERATORS}
    mutants = []
    if not is_neutral:
        tree = SourceTree([read_unit(root, file) for file in scope.files])
        mutants = [
            one
            for one in generate_mutants(tree, scope, chosen)
            if part in one.changed_ranges[0].file
        ]
        if not mutants:
            raise ToolError("mutants", "must be made", expected="at least one", got=0)
    if sample is not None and sample < len(mutants):
        kept = set(random.Random(seed).sample(range(len(mutants)), sample))
        mutants = [mutant for index, mutant in enumerate(mutants) if index in kept]
    return CampaignPlan(
        root=root,
        target=target,
        files=scope.files,
        mutants=tuple(mutants),
        scenarios=scenarios,
        devices=devices,
        limit_seconds=limit_seconds,
        scenarios_max=most,
    )


def _build_launcher(target: str, place: PreparedSide, *, spreads: bool) -> WorkerLauncher:
    if target == NATIVE and spreads:
        # Not by multiprocessing, which would run the main program of a Ray worker again.
        return IsolatedLauncher(
            worker_class="tools.mutation.worker.worker:NativeMutationWorker",
            root=place.root,
            python=place.python,
            layers=(),
        )
    if target == NATIVE:
        return SpawnLauncher(
            worker_class="tools.mutation.worker.worker:NativeMutationWorker", root=place.root
        )
    return IsolatedLauncher(
        worker_class="tools.mutation.worker.worker:SglangMutationWorker",
        root=place.root,
        python=place.python,
        layers=place.layers,
    )


@contextmanager
def _open_executor(
    launcher: WorkerLauncher, *, ray: str | None, workers: int | None
) -> "Iterator[Executor]":
    from tools.mutation.campaign.executors import open_local_executor
    from tools.mutation.campaign.ray_executor import open_ray_executor

    if ray is not None:
        with open_ray_executor(
            launcher, address=ray, size=workers, limit_seconds=TASK_LIMIT_SECONDS
        ) as cluster:
            yield cluster
        return
    size = workers or core_count()
    with open_local_executor(launcher, size=size, limit_seconds=TASK_LIMIT_SECONDS) as hands:
        yield hands


def _run_baseline(plan: "CampaignPlan", executor: "Executor") -> "BaselineRun":
    from tools.mutation.campaign.driver import count_baseline_runs, run_baseline

    with progress("playing the code as it is", total=count_baseline_runs(plan)) as on_played:
        return run_baseline(plan, executor, on_played=on_played)


def _run_campaign(
    plan: "CampaignPlan",
    executor: "Executor",
    baseline_run: "BaselineRun",
    *,
    journal: Path | None,
    side: str,
    form: "MutationReportFormat",
    root: Path,
) -> int:
    from tools.mutation.campaign.driver import run_campaign
    from tools.mutation.campaign.journal import open_journal
    from tools.mutation.report.render import render_statistics
    from tools.mutation.report.statistics import compute_statistics
    from tools.mutation.report.survivors import read_explained_survivors

    start = time.perf_counter()
    with (
        open_journal(journal, campaign=plan.digest) as kept,
        progress("judging mutants", total=len(plan.mutants), with_eta=True) as on_judged,
    ):
        fates = run_campaign(plan, executor, kept, baseline_run=baseline_run, on_finished=on_judged)
    work = sum(fate.seconds for fate in fates)
    print_status(f"mutants: {time.perf_counter() - start:.1f} s, {work:.1f} s of work")
    found = compute_statistics(
        fates,
        target=plan.target,
        side=side,
        explained=read_explained_survivors(root),
        notes=tuple(
            f"not played: {name}: {why}" for name, why in sorted(baseline_run.unsupported.items())
        ),
    )
    sys.stdout.write(render_statistics(found, form=form))
    return 1 if found.unexplained or found.stale else 0


def _run_neutral_stacks(
    plan: "CampaignPlan",
    executor: "Executor",
    baseline_run: "BaselineRun",
    *,
    seed: int,
    stacks: int,
    form: "MutationReportFormat",
) -> int:
    from tools.mutation.campaign.neutral_driver import measure_false_alarms
    from tools.mutation.report.render import render_false_alarms

    if plan.target != NATIVE:
        rule = "harmless refactors must be of our own code"
        raise ToolError("--neutral", rule, expected=NATIVE, got=plan.target)
    with progress("judging stacks", total=stacks, with_eta=True) as on_judged:
        found = measure_false_alarms(
            plan,
            executor,
            baseline_run=baseline_run,
            seed=seed,
            stacks=stacks,
            on_finished=on_judged,
        )
    sys.stdout.write(render_false_alarms(found, form=form))
    return 1 if found.alarms else 0
