"""Random stacks of harmless refactors against the gate: any difference is a false alarm."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from types import MappingProxyType

import msgspec

from tools.console import print_status
from tools.errors import ToolError
from tools.mutation.campaign.driver import BROKEN, BaselineRun, CampaignPlan, run_tasks
from tools.mutation.campaign.tasks import LoadBaseline, RunNeutralStack
from tools.mutation.neutral.refactor_stack import random_stack
from tools.mutation.neutral.rewrites import REWRITES
from tools.workers.protocol import TaskExecutor
from tools.workers.results import ProgressCallback

SCENARIOS_PER_STACK = 2


class FalseAlarm(msgspec.Struct, frozen=True, kw_only=True):
    """A stack with a difference of behaviour, as small as possible unless the run was interrupted.

    Attributes:
        steps: kind, seed and file of those without which there is no alarm.
        differences: headlines of the causes.
    """

    seed: int
    steps: tuple[str, ...]
    differences: tuple[str, ...]


class FalseAlarmReport(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of stacks and of refactors of each kind, and the false alarms.

    Attributes:
        asked: number of stacks to judge; ``stacks`` are judged, fewer where it was interrupted.
    """

    asked: int
    stacks: int
    refactors: dict[str, int]
    alarms: tuple[FalseAlarm, ...]


def measure_false_alarms(
    plan: CampaignPlan,
    executor: TaskExecutor,
    *,
    baseline: BaselineRun,
    seeds: range,
    on_finished: ProgressCallback,
) -> FalseAlarmReport:
    """Run one stack of refactors for each seed; an interrupt ends that, and what is judged counts.

    Raises:
        ToolError: the control, a module that raises, causes no alarm.
    """
    counts: Counter[str] = Counter()
    alarms: dict[int, tuple[str, ...]] = {}
    stacks = [stack_of_seed(plan, baseline, seed) for seed in seeds]
    executor.broadcast(LoadBaseline(scenarios=plan.scenarios, results=baseline.results))
    _run_controls(executor, stacks[0], plan.root, baseline)
    judged = 0
    try:
        for number, found in run_tasks(executor, stacks):
            judged += 1
            counts.update(kind for kind, _ in found.done)
            on_finished(f"seed {seeds[number]}")
            if found.differences:
                print_status(f"alarm: seed {seeds[number]}: {found.differences[0]}")
                alarms[number] = found.differences
        small = [
            _shrink(executor, stacks[number], differences, seed=seeds[number])
            for number, differences in alarms.items()
        ]
    except KeyboardInterrupt:
        small = [
            _false_alarm(stacks[number], differences, seed=seeds[number])
            for number, differences in alarms.items()
        ]
    return FalseAlarmReport(
        asked=len(seeds),
        stacks=judged,
        refactors=dict(sorted(counts.items())),
        alarms=tuple(small),
    )


def stack_of_seed(plan: CampaignPlan, baseline: BaselineRun, seed: int) -> RunNeutralStack:
    """Return the stack of refactors of a seed, its files and its scenarios."""
    random = Random(seed)
    files, names = plan.files, list(baseline.results)
    if plan.files_per_stack is not None:
        executed = sorted(file for file, lines in baseline.reached.items() if lines)
        files = tuple(random.sample(executed, min(plan.files_per_stack, len(executed))))
        names = [
            name
            for name, result in baseline.results.items()
            if not result.reached.keys().isdisjoint(files)
        ]
    names = random.sample(names, min(SCENARIOS_PER_STACK, len(names)))
    return RunNeutralStack(
        files=files,
        steps=random_stack(seed, tuple(REWRITES)),
        texts={},
        names=tuple(names),
        settings=replace(plan.settings, limit_seconds=plan.settings.limit_seconds * len(names)),
    )


def _shrink(
    executor: TaskExecutor, stack: RunNeutralStack, differences: tuple[str, ...], *, seed: int
) -> FalseAlarm:
    """Leave steps out one by one, as long as there is an alarm."""
    files: Mapping[str, str] = {}
    for step in stack.steps:
        fewer = replace(stack, steps=tuple(other for other in stack.steps if other is not step))
        [(_, found)] = run_tasks(executor, [fewer])
        if found.differences:
            stack, differences, files = fewer, found.differences, dict(found.done)
    return _false_alarm(stack, differences, seed=seed, files=files)


def _false_alarm(
    stack: RunNeutralStack,
    differences: tuple[str, ...],
    *,
    seed: int,
    files: Mapping[str, str] = MappingProxyType({}),
) -> FalseAlarm:
    """Return the alarm of a stack; ``files`` are what its kinds of steps rewrote, where known."""
    steps = (f"{one.kind}:{one.seed} {files.get(one.kind, '')}".strip() for one in stack.steps)
    return FalseAlarm(seed=seed, steps=tuple(steps), differences=differences)


def _run_controls(
    executor: TaskExecutor, stack: RunNeutralStack, root: Path, baseline: BaselineRun
) -> None:
    # A module that the scenario hardly needs may fail to be imported without any effect.
    reached = baseline.results[stack.names[0]].reached
    file = max(sorted(reached), key=lambda one: len(reached[one]))
    broken = {file: (root / file).read_text(encoding="utf-8") + BROKEN}
    unchanged = replace(stack, steps=(), names=stack.names[:1])
    found = dict(run_tasks(executor, [unchanged, replace(unchanged, texts=broken)]))
    if found[0].differences or not found[1].differences:
        rule = "must be quiet without a change and loud with a broken one"
        raise ToolError("control", rule, expected="nothing, something", got=found)
