"""Results of running scenarios, each under two hash seeds, which must agree, or under one."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tools.errors import ToolError
from tools.workers.pool import WorkerPool
from tools.workers.protocol import (
    Reach,
    RunResult,
    RunScenario,
    TaskFailed,
    UnsupportedScenario,
    merge_reaches,
)
from traces.targets.common.scenario import Scenario

HASH_SEEDS = (0, 4242)

ProgressCallback: TypeAlias = Callable[[str], None]
DifferenceCallback: TypeAlias = Callable[[str, RunResult | UnsupportedScenario], None]
_Reply: TypeAlias = RunResult | UnsupportedScenario | TaskFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResults:
    """Results of running some scenarios on one side, as they come from the workers.

    Attributes:
        by_scenario: in the order asked; only those with the same result under every hash seed that
            they ran under.
        unplayable: the reason, for scenarios that the side has no parts for.
        problems: one line for each of the others.
        reaches: what each run or refusal reached, under any of these, where that was recorded.
    """

    by_scenario: Mapping[str, RunResult]
    unplayable: Mapping[str, str]
    problems: tuple[str, ...]
    reaches: Mapping[str, Reach]


def run_scenarios(
    pool: WorkerPool, scenarios: Sequence[Scenario], *, device: str, on_run: ProgressCallback
) -> RunResults:
    """Run every scenario once under each of :data:`HASH_SEEDS`, which are those of the pool.

    ``on_run`` is called with each name when its last result is in.

    Raises:
        ToolError: the target cannot be imported.
    """
    tasks = [RunScenario(scenario=scenario, device=device) for scenario in scenarios]
    replies: dict[str, dict[int, _Reply]] = {scenario.name: {} for scenario in scenarios}
    for reply in pool.results(tasks):
        name = scenarios[reply.number].name
        replies[name][reply.seed] = reply.result
        if len(replies[name]) == len(HASH_SEEDS):
            on_run(name)
    return _combine_replies(replies)


def run_in_turns(
    pool: WorkerPool, scenarios: Sequence[Scenario], *, device: str, on_run: ProgressCallback
) -> RunResults:
    """Run every scenario under one of :data:`HASH_SEEDS`: the first one, the second one, in turn.

    Raises:
        ToolError: the target cannot be imported.
    """
    replies: dict[str, dict[int, _Reply]] = {}
    for name, seed, reply in _in_turns(pool, scenarios, device=device):
        replies[name] = {seed: reply}
        on_run(name)
    return _combine_replies({one.name: replies[one.name] for one in scenarios})


def run_as_expected(
    pool: WorkerPool,
    scenarios: Sequence[Scenario],
    *,
    device: str,
    expected: Mapping[str, str],
    on_run: ProgressCallback,
    on_difference: DifferenceCallback,
) -> tuple[RunResults, tuple[str, ...]]:
    """Run every scenario under one hash seed in turn, and what is not as expected under both.

    ``expected`` are traces, or reasons of refusal. ``on_difference`` is called with the name of a
    scenario and its result when that is another one. The names of the others are returned as well.

    Raises:
        ToolError: the target cannot be imported.
    """
    same: dict[str, RunResult | UnsupportedScenario] = {}
    for name, _, result in _in_turns(pool, scenarios, device=device):
        if isinstance(result, TaskFailed):
            continue
        if _text_of(result) == expected.get(name):
            same[name] = result
            on_run(name)
        elif name in expected:
            on_difference(name, result)
    others = [one for one in scenarios if one.name not in same]
    both = run_scenarios(pool, others, device=device, on_run=on_run)
    played = {name: one for name, one in same.items() if isinstance(one, RunResult)}
    refused = {
        name: one.reason for name, one in same.items() if isinstance(one, UnsupportedScenario)
    }
    return RunResults(
        by_scenario={**played, **both.by_scenario},
        unplayable={**refused, **both.unplayable},
        problems=both.problems,
        reaches={},
    ), tuple(same)


def _in_turns(
    pool: WorkerPool, scenarios: Sequence[Scenario], *, device: str
) -> Iterator[tuple[str, int, _Reply]]:
    """Yield name, hash seed and reply of every scenario, in the order of completion."""
    tasks = [RunScenario(scenario=scenario, device=device) for scenario in scenarios]
    for reply in pool.results(tasks, in_turns=True):
        yield scenarios[reply.number].name, reply.seed, reply.result


def _text_of(result: RunResult | UnsupportedScenario) -> str:
    return result.text if isinstance(result, RunResult) else result.reason


def _combine_replies(replies: Mapping[str, Mapping[int, _Reply]]) -> RunResults:
    """Return the results that agree under all their hash seeds, and a problem for all others."""
    agreed: dict[str, RunResult] = {}
    unplayable: dict[str, str] = {}
    problems: list[str] = []
    for name, by_seed in replies.items():
        first = next(iter(by_seed.values()))
        if all(reply == first for reply in by_seed.values()) and isinstance(
            first, UnsupportedScenario
        ):
            unplayable[name] = first.reason
        elif (problem := _problem(name, by_seed)) is not None:
            problems.append(problem)
        elif isinstance(first, RunResult):
            agreed[name] = first
    return RunResults(
        by_scenario=agreed,
        unplayable=unplayable,
        problems=tuple(problems),
        reaches={
            name: reach
            for name in (*agreed, *unplayable)
            if (reach := _merged_reach(replies[name].values())) is not None
        },
    )


def _merged_reach(replies: Iterable[_Reply]) -> Reach | None:
    found = [reply.reach for reply in replies if not isinstance(reply, TaskFailed)]
    known = [reach for reach in found if reach is not None]
    return merge_reaches(known) if len(known) == len(found) else None


def unplayable_notes(side: str, unplayable: Mapping[str, str]) -> tuple[str, ...]:
    """Return one line for each reason why a side cannot run scenarios; the verdict names them."""
    return tuple(
        f"{side} cannot run {len(names)} {'scenarios' if len(names) > 1 else 'scenario'}: {reason}"
        for reason, names in group_by_reason(unplayable)
    )


def group_by_reason(unplayable: Mapping[str, str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return each reason once, with the names of its scenarios."""
    names: dict[str, list[str]] = {}
    for name, reason in unplayable.items():
        names.setdefault(reason, []).append(name)
    return tuple((reason, tuple(of)) for reason, of in names.items())


def _problem(name: str, by_seed: Mapping[int, _Reply]) -> str | None:
    texts: list[str] = []
    for seed, reply in sorted(by_seed.items()):
        if not isinstance(reply, RunResult):
            rule = f"must run to the end (PYTHONHASHSEED={seed})"
            return str(ToolError(name, rule, expected="a trace", got=reply.reason))
        texts.append(reply.text)
    if all(text == texts[0] for text in texts):
        return None
    rule = f"must be deterministic over PYTHONHASHSEED={' and '.join(map(str, sorted(by_seed)))}"
    one, other = _first_difference(texts[0], texts[1])
    return str(ToolError(name, rule, expected=one, got=other))


def _first_difference(one: str, other: str) -> tuple[str, str]:
    lines, others = one.splitlines(), other.splitlines()
    for number, (line, another) in enumerate(zip(lines, others, strict=False), start=1):
        if line != another:
            return f"line {number} `{line.strip()}`", f"`{another.strip()}`"
    return f"{len(lines)} lines", f"{len(others)} lines"
