"""Random stacks of harmless refactors against the gate: any difference is a false alarm."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import msgspec

from tools.errors import ToolError
from tools.mutation.baseline import write_baseline
from tools.mutation.campaign import Plan, Stand
from tools.mutation.executors import Executor
from tools.mutation.neutral.rewrites import REWRITES
from tools.mutation.neutral.steps import Step, stack_of
from tools.mutation.orders import Compare
from tools.output import say
from tools.playing import OnPlayed

SCENARIOS_A_STACK = 2


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """A stack that is told to differ, made as small as it gets.

    Attributes:
        seed: of the stack.
        steps: kind, seed and file of those without which there is no alarm.
        differences: what is told.
    """

    seed: int
    steps: tuple[str, ...]
    differences: tuple[str, ...]


class Quietness(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a number of stacks.

    Attributes:
        stacks: number of stacks that changed something.
        refactors: how often each kind was applied.
        alarms: the false ones.
    """

    stacks: int
    refactors: dict[str, int]
    alarms: tuple[Alarm, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stack:
    seed: int
    steps: tuple[Step, ...]
    names: tuple[str, ...]


def quietness(
    plan: Plan,
    executor: Executor,
    *,
    stand: Stand,
    seed: int,
    stacks: int,
    on_judged: OnPlayed,
) -> Quietness:
    """Judge stacks of refactors, of seeds that follow one another.

    Raises:
        ToolError: the control, a module that raises, causes no alarm.
    """
    counts: Counter[str] = Counter()
    loud: list[tuple[_Stack, tuple[str, ...]]] = []
    made = [_stack(plan, stand, one) for one in range(seed, seed + stacks)]
    with TemporaryDirectory() as folder:
        baseline = Path(folder) / "baseline"
        write_baseline(baseline, scenarios=plan.scenarios, plays=stand.plays)
        executor.load(baseline)
        _controlled(plan, executor, stand)
        for number, found in executor.results([_order(plan, stack) for stack in made]):
            counts.update(kind for kind, _ in found.done)
            on_judged(f"seed {made[number].seed}")
            if found.differences:
                say(f"alarm: seed {made[number].seed}: {found.differences[0]}")
                loud.append((made[number], found.differences))
        # Not before: the workers are busy until the last result is in.
        alarms = [_smallest(plan, executor, stack, differences) for stack, differences in loud]
    return Quietness(stacks=stacks, refactors=dict(sorted(counts.items())), alarms=tuple(alarms))


def _stack(plan: Plan, stand: Stand, seed: int) -> _Stack:
    names = stand.all_on(plan.devices[""])
    return _Stack(
        seed=seed,
        steps=stack_of(seed, tuple(REWRITES)),
        names=tuple(Random(seed).sample(names, min(SCENARIOS_A_STACK, len(names)))),
    )


def _order(plan: Plan, stack: _Stack, *, texts: Mapping[str, str] | None = None) -> Compare:
    return Compare(
        files=plan.files,
        steps=stack.steps,
        texts=texts or {},
        names=stack.names,
        device=plan.devices[""],
        limit_seconds=plan.limit_seconds * len(stack.names),
    )


def _smallest(plan: Plan, executor: Executor, stack: _Stack, differences: tuple[str, ...]) -> Alarm:
    """Leave steps out one by one, as long as there is an alarm."""
    files: tuple[tuple[str, str], ...] = ()
    for step in stack.steps:
        fewer = replace(stack, steps=tuple(other for other in stack.steps if other is not step))
        [(_, found)] = executor.results([_order(plan, fewer)])
        if found.differences:
            stack, differences, files = fewer, found.differences, found.done
    return Alarm(
        seed=stack.seed,
        steps=tuple(
            f"{step.kind}:{step.seed} {dict(files).get(step.kind, '')}".strip()
            for step in stack.steps
        ),
        differences=differences,
    )


def _controlled(plan: Plan, executor: Executor, stand: Stand) -> None:
    file = plan.files[0]
    text = (plan.root / file).read_text(encoding="utf-8")
    broken = {file: f"{text}\nraise RuntimeError('always broken')\n"}
    quiet = _Stack(seed=0, steps=(), names=stand.all_on(plan.devices[""])[:1])
    orders = [_order(plan, quiet), _order(plan, quiet, texts=broken)]
    found = dict(executor.results(orders))
    if found[0].differences or not found[1].differences:
        rule = "must be quiet without a change and loud with a broken one"
        raise ToolError("control", rule, expected="nothing, something", got=found)
