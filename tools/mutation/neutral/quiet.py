"""Random stacks of harmless refactors against the gate: any difference is a false alarm."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import msgspec

from tools.errors import ToolError
from tools.mutation.baseline import write_baseline
from tools.mutation.campaign import Plan, Stand
from tools.mutation.executors import Executor
from tools.mutation.neutral.rewrites import REWRITES
from tools.mutation.neutral.steps import Applied, Step, applied_stack, stack_of
from tools.mutation.orders import Compare
from tools.output import say
from tools.playing import OnPlayed

SCENARIOS_A_STACK = 2
_AHEAD = 64
"""Stacks made before their results are awaited: making one takes about as long as playing it."""


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
    applied: Applied
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
        ToolError: the control, a changed value, raises no alarm.
    """
    sources = {file: (plan.root / file).read_text(encoding="utf-8") for file in plan.files}
    counts: Counter[str] = Counter()
    alarms: list[Alarm] = []
    with TemporaryDirectory() as folder:
        baseline = Path(folder) / "baseline"
        write_baseline(baseline, scenarios=plan.scenarios, plays=stand.plays)
        executor.load(baseline)
        _controlled(plan, executor, stand=stand, sources=sources)
        for start in range(seed, seed + stacks, _AHEAD):
            seeds = range(start, min(start + _AHEAD, seed + stacks))
            made = [_stack(one, sources, names=stand.all_on(plan.devices[""])) for one in seeds]
            for stack, differences in _judged(plan, executor, made):
                counts.update(step.kind for step, _ in stack.applied.done)
                on_judged(f"seed {stack.seed}")
                if differences:
                    say(f"alarm: seed {stack.seed}: {differences[0]}")
                    alarms.append(_smallest(plan, executor, stack, differences, sources=sources))
    return Quietness(stacks=stacks, refactors=dict(sorted(counts.items())), alarms=tuple(alarms))


def _stack(seed: int, sources: Mapping[str, str], *, names: Sequence[str]) -> _Stack:
    steps = stack_of(seed, tuple(REWRITES))
    return _Stack(
        seed=seed,
        applied=applied_stack(sources, steps, REWRITES),
        names=tuple(Random(seed).sample(names, min(SCENARIOS_A_STACK, len(names)))),
    )


def _judged(
    plan: Plan, executor: Executor, stacks: Sequence[_Stack]
) -> Iterator[tuple[_Stack, tuple[str, ...]]]:
    orders = [_order(plan, stack.applied.texts, stack.names) for stack in stacks]
    for number, differences in executor.results(orders):
        yield stacks[number], differences


def _order(plan: Plan, texts: Mapping[str, str], names: tuple[str, ...]) -> Compare:
    return Compare(
        texts=texts,
        names=names,
        device=plan.devices[""],
        limit_seconds=plan.limit_seconds * len(names),
    )


def _smallest(
    plan: Plan,
    executor: Executor,
    stack: _Stack,
    differences: tuple[str, ...],
    *,
    sources: Mapping[str, str],
) -> Alarm:
    """Leave steps out one by one, as long as there is an alarm."""
    kept = [step for step, _ in stack.applied.done]
    for step in list(kept):
        fewer = [other for other in kept if other is not step]
        found = _differences(plan, executor, fewer, names=stack.names, sources=sources)
        if found:
            kept, differences = fewer, found
    files = dict(applied_stack(sources, kept, REWRITES).done)
    return Alarm(
        seed=stack.seed,
        steps=tuple(f"{step.kind}:{step.seed} {files.get(step, '')}" for step in kept),
        differences=differences,
    )


def _differences(
    plan: Plan,
    executor: Executor,
    steps: Sequence[Step],
    *,
    names: tuple[str, ...],
    sources: Mapping[str, str],
) -> tuple[str, ...]:
    texts = applied_stack(sources, steps, REWRITES).texts
    [(_, found)] = executor.results([_order(plan, texts, names)])
    differences: tuple[str, ...] = found
    return differences


def _controlled(
    plan: Plan, executor: Executor, *, stand: Stand, sources: Mapping[str, str]
) -> None:
    file = plan.files[0]
    broken = {file: f"{sources[file]}\nraise RuntimeError('always broken')\n"}
    orders = [_order(plan, texts, stand.all_on(plan.devices[""])[:1]) for texts in ({}, broken)]
    found = dict(executor.results(orders))
    if found[0] or not found[1]:
        rule = "must be quiet without a change and loud with a broken one"
        raise ToolError("control", rule, expected="nothing, something", got=found)
