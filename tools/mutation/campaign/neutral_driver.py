"""Random stacks of harmless refactors against the gate: any difference is a false alarm."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import msgspec

from tools.console import print_status
from tools.errors import ToolError
from tools.mutation.campaign.baseline_file import write_baseline
from tools.mutation.campaign.driver import BaselineRun, CampaignPlan
from tools.mutation.campaign.executors import Executor
from tools.mutation.campaign.tasks import RunNeutralStack
from tools.mutation.neutral.refactor_stack import RefactorStep, random_stack
from tools.mutation.neutral.rewrites import REWRITES
from tools.workers.results import ProgressCallback

SCENARIOS_PER_STACK = 2


class FalseAlarm(msgspec.Struct, frozen=True, kw_only=True):
    """A stack that is told to differ, made as small as it gets.

    Attributes:
        seed: of the stack.
        steps: kind, seed and file of those without which there is no alarm.
        differences: what is told.
    """

    seed: int
    steps: tuple[str, ...]
    differences: tuple[str, ...]


class FalseAlarmReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a number of stacks.

    Attributes:
        stacks: number of stacks that changed something.
        refactors: how often each kind was applied.
        alarms: the false ones.
    """

    stacks: int
    refactors: dict[str, int]
    alarms: tuple[FalseAlarm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _RefactorStack:
    seed: int
    steps: tuple[RefactorStep, ...]
    names: tuple[str, ...]


def measure_false_alarms(
    plan: CampaignPlan,
    executor: Executor,
    *,
    baseline_run: BaselineRun,
    seed: int,
    stacks: int,
    on_finished: ProgressCallback,
) -> FalseAlarmReport:
    """Judge stacks of refactors, of seeds that follow one another.

    Raises:
        ToolError: the control, a module that raises, causes no alarm.
    """
    counts: Counter[str] = Counter()
    loud: list[tuple[_RefactorStack, tuple[str, ...]]] = []
    made = [_draw_stack(plan, baseline_run, one) for one in range(seed, seed + stacks)]
    with TemporaryDirectory() as folder:
        baseline = Path(folder) / "baseline"
        write_baseline(
            baseline, scenarios=plan.scenarios, baseline_results=baseline_run.baseline_results
        )
        executor.load(baseline)
        _run_controls(plan, executor, baseline_run)
        for number, found in executor.results([_stack_task(plan, stack) for stack in made]):
            counts.update(kind for kind, _ in found.done)
            on_finished(f"seed {made[number].seed}")
            if found.differences:
                print_status(f"alarm: seed {made[number].seed}: {found.differences[0]}")
                loud.append((made[number], found.differences))
        # Not before: the workers are busy until the last result is in.
        alarms = [_shrink(plan, executor, stack, differences) for stack, differences in loud]
    return FalseAlarmReport(
        stacks=stacks, refactors=dict(sorted(counts.items())), alarms=tuple(alarms)
    )


def _draw_stack(plan: CampaignPlan, baseline_run: BaselineRun, seed: int) -> _RefactorStack:
    names = baseline_run.scenarios_on(plan.devices[""])
    return _RefactorStack(
        seed=seed,
        steps=random_stack(seed, tuple(REWRITES)),
        names=tuple(Random(seed).sample(names, min(SCENARIOS_PER_STACK, len(names)))),
    )


def _stack_task(
    plan: CampaignPlan, stack: _RefactorStack, *, texts: Mapping[str, str] | None = None
) -> RunNeutralStack:
    return RunNeutralStack(
        files=plan.files,
        steps=stack.steps,
        texts=texts or {},
        names=stack.names,
        device=plan.devices[""],
        limit_seconds=plan.limit_seconds * len(stack.names),
    )


def _shrink(
    plan: CampaignPlan, executor: Executor, stack: _RefactorStack, differences: tuple[str, ...]
) -> FalseAlarm:
    """Leave steps out one by one, as long as there is an alarm."""
    files: tuple[tuple[str, str], ...] = ()
    for step in stack.steps:
        fewer = replace(stack, steps=tuple(other for other in stack.steps if other is not step))
        [(_, found)] = executor.results([_stack_task(plan, fewer)])
        if found.differences:
            stack, differences, files = fewer, found.differences, found.done
    return FalseAlarm(
        seed=stack.seed,
        steps=tuple(
            f"{step.kind}:{step.seed} {dict(files).get(step.kind, '')}".strip()
            for step in stack.steps
        ),
        differences=differences,
    )


def _run_controls(plan: CampaignPlan, executor: Executor, baseline_run: BaselineRun) -> None:
    file = plan.files[0]
    text = (plan.root / file).read_text(encoding="utf-8")
    broken = {file: f"{text}\nraise RuntimeError('always broken')\n"}
    quiet = _RefactorStack(seed=0, steps=(), names=baseline_run.scenarios_on(plan.devices[""])[:1])
    orders = [_stack_task(plan, quiet), _stack_task(plan, quiet, texts=broken)]
    found = dict(executor.results(orders))
    if found[0].differences or not found[1].differences:
        rule = "must be quiet without a change and loud with a broken one"
        raise ToolError("control", rule, expected="nothing, something", got=found)
