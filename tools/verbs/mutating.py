"""``mutate``: how much the net catches, and how quiet it is."""

import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from tools.crew import core_num
from tools.desk import known_device
from tools.errors import ToolError
from tools.launching import Isolated, Launcher, Spawned
from tools.options import Limit, Python, SideOption, Target, interpreter, opener, side_or
from tools.output import say, timed
from tools.progress import progress
from tools.sides import parse_side
from tools.standing import Standing, standing
from tools.targets import NATIVE

if TYPE_CHECKING:
    from tools.mutation.campaign import Plan, Stand
    from tools.mutation.executors import Executor
    from tools.mutation.reports import Form
    from traces.scenarios import Scenario

SCENARIO_LIMIT_SECONDS = 60.0
ORDER_LIMIT_SECONDS = 1800.0

Operators: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--operator", metavar="NAME", help="Only this operator; may be repeated."),
]
Part: TypeAlias = Annotated[
    str, typer.Option("--file", metavar="PART", help="Only mutants of paths with this part.")
]
Sample: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Only so many mutants, drawn with --seed.")
]
Most: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--most", min=1, metavar="N", help="Scenarios a mutant is played on; all that reach it."
    ),
]
JournalFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--journal", metavar="FILE", help="Results as they come; a re-run goes on."),
]
Workers: TypeAlias = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Worker processes; one for each core.")
]
RayAddress: TypeAlias = Annotated[
    str | None,
    typer.Option("--ray", metavar="local|ADDRESS", help="Spread over a Ray cluster."),
]
FormName: TypeAlias = Annotated[
    str, typer.Option("--format", metavar="text|json|markdown", help="Form of the figures.")
]


def mutate(
    context: typer.Context,
    *,
    operator: Operators = None,
    file: Part = "",
    sample: Sample = None,
    most: Most = None,
    seed: Annotated[int, typer.Option(help="Of samples and of neutral stacks.")] = 0,
    neutral: Annotated[
        int | None,
        typer.Option(min=1, metavar="STACKS", help="Judge random stacks of harmless refactors."),
    ] = None,
    journal: JournalFile = None,
    workers: Workers = None,
    ray: RayAddress = None,
    target: Target = NATIVE,
    side: SideOption = None,
    python: Python = None,
    form: FormName = "text",
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="NAME", help="Play all of it there."),
    ] = None,
    timeout: Limit = SCENARIO_LIMIT_SECONDS,
) -> None:
    """Measure the net with mutants: each makes one small fault that a refactor can make.

    A mutant is played on the scenarios that reach it, and killed by the gate's own comparison with
    the code as it is. Exit 1 when a survivor is not explained in docs/mutation_survivors.toml.
    With --neutral, random stacks of harmless refactors are judged: any alarm is a false one.
    """
    from tools.mutation.reports import Form
    from tools.mutation.scopes import devices_of

    if form not in list(Form):
        raise ToolError("--format", "must be known", expected=", ".join(Form), got=repr(form))
    desk = opener(context)(target=target, limit_seconds=timeout)
    named = side_or("worktree", side, option="--side", target=target)
    parsed = parse_side(named, root=desk.root, target=target)
    interpreted = interpreter(python, target=target)
    with ExitStack() as stack:
        stack.enter_context(timed())
        place = stack.enter_context(standing(parsed, root=desk.root, python=interpreted))
        plan = _plan(
            place.root,
            target=target,
            scenarios=desk.scenarios,
            operators=operator or [],
            part=file,
            sample=sample,
            seed=seed,
            limit_seconds=timeout,
            most=most,
            devices=devices_of(target) if device is None else {"": known_device(device)},
            is_neutral=neutral is not None,
        )
        launcher = _launcher(target, place, spreads=ray is not None)
        executor = stack.enter_context(_executor(launcher, ray=ray, workers=workers))
        start = time.perf_counter()
        stand = _rehearsed(plan, executor)
        say(f"code as it is: {time.perf_counter() - start:.1f} s")
        if neutral is not None:
            code = _quiet(plan, executor, stand, seed=seed, stacks=neutral, form=Form(form))
        else:
            code = _campaign(
                plan, executor, stand, journal=journal, side=named, form=Form(form), root=desk.root
            )
    raise typer.Exit(code)


def _plan(
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
) -> "Plan":
    from tools.mutation.campaign import Plan
    from tools.mutation.mutants import made
    from tools.mutation.operators import OPERATORS
    from tools.mutation.scopes import scope_of
    from tools.mutation.source import Tree, read_unit

    for name in operators:
        if name not in OPERATORS:
            expected = ", ".join(OPERATORS)
            raise ToolError("--operator", "must be known", expected=expected, got=repr(name))
    scope = scope_of(target, root)
    chosen = {name: OPERATORS[name] for name in operators or OPERATORS}
    mutants = []
    if not is_neutral:
        tree = Tree([read_unit(root, file) for file in scope.files])
        mutants = [one for one in made(tree, scope, chosen) if part in one.places[0].file]
        if not mutants:
            raise ToolError("mutants", "must be made", expected="at least one", got=0)
    if sample is not None and sample < len(mutants):
        kept = set(random.Random(seed).sample(range(len(mutants)), sample))
        mutants = [mutant for index, mutant in enumerate(mutants) if index in kept]
    return Plan(
        root=root,
        target=target,
        files=scope.files,
        mutants=tuple(mutants),
        scenarios=scenarios,
        devices=devices,
        limit_seconds=limit_seconds,
        scenarios_max=most,
    )


def _launcher(target: str, place: Standing, *, spreads: bool) -> Launcher:
    if target == NATIVE and spreads:
        # Not by multiprocessing, which would run the main program of a Ray worker again.
        return Isolated(
            stage="tools.mutation.stages:NativeMutants",
            root=place.root,
            python=place.python,
            layers=(),
        )
    if target == NATIVE:
        return Spawned(stage="tools.mutation.stages:NativeMutants", root=place.root)
    return Isolated(
        stage="tools.mutation.stages:SglangMutants",
        root=place.root,
        python=place.python,
        layers=place.layers,
    )


@contextmanager
def _executor(launcher: Launcher, *, ray: str | None, workers: int | None) -> "Iterator[Executor]":
    from tools.mutation.executors import local
    from tools.mutation.ray_cluster import ray_cluster

    if ray is not None:
        with ray_cluster(
            launcher, address=ray, size=workers, limit_seconds=ORDER_LIMIT_SECONDS
        ) as cluster:
            yield cluster
        return
    size = workers or core_num()
    with local(launcher, size=size, limit_seconds=ORDER_LIMIT_SECONDS) as hands:
        yield hands


def _rehearsed(plan: "Plan", executor: "Executor") -> "Stand":
    from tools.mutation.campaign import play_num, rehearsed

    with progress("playing the code as it is", total=play_num(plan)) as on_played:
        return rehearsed(plan, executor, on_played=on_played)


def _campaign(
    plan: "Plan",
    executor: "Executor",
    stand: "Stand",
    *,
    journal: Path | None,
    side: str,
    form: "Form",
    root: Path,
) -> int:
    from tools.mutation.campaign import run
    from tools.mutation.figures import figures
    from tools.mutation.journal import open_journal
    from tools.mutation.ledger import read_ledger
    from tools.mutation.reports import rendered

    start = time.perf_counter()
    with (
        open_journal(journal, campaign=plan.digest) as kept,
        progress("judging mutants", total=len(plan.mutants), with_eta=True) as on_judged,
    ):
        fates = run(plan, executor, kept, stand=stand, on_judged=on_judged)
    work = sum(fate.seconds for fate in fates)
    say(f"mutants: {time.perf_counter() - start:.1f} s, {work:.1f} s of work")
    found = figures(
        fates,
        target=plan.target,
        side=side,
        ledger=read_ledger(root),
        notes=tuple(f"not played: {name}: {why}" for name, why in sorted(stand.unplayable.items())),
    )
    sys.stdout.write(rendered(found, form=form))
    return 1 if found.unexplained or found.stale else 0


def _quiet(
    plan: "Plan",
    executor: "Executor",
    stand: "Stand",
    *,
    seed: int,
    stacks: int,
    form: "Form",
) -> int:
    from tools.mutation.neutral.quiet import quietness
    from tools.mutation.reports import rendered_quietness

    if plan.target != NATIVE:
        rule = "harmless refactors must be of our own code"
        raise ToolError("--neutral", rule, expected=NATIVE, got=plan.target)
    with progress("judging stacks", total=stacks, with_eta=True) as on_judged:
        found = quietness(
            plan, executor, stand=stand, seed=seed, stacks=stacks, on_judged=on_judged
        )
    sys.stdout.write(rendered_quietness(found, form=form))
    return 1 if found.alarms else 0
