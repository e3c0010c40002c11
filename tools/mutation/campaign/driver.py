"""A campaign: controls, then every mutant on the scenarios that execute it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import msgspec

from tools.errors import ToolError
from tools.mutation.campaign.journal import Journal
from tools.mutation.campaign.scenario_choice import ScenarioChoice
from tools.mutation.campaign.tasks import (
    BaselineResult,
    LoadBaseline,
    MutantResult,
    RunBaseline,
    RunMutant,
    RunSettings,
)
from tools.mutation.mutant import LineRange, Mutant
from tools.workers.protocol import Result, Task, TaskExecutor, TaskFailed
from tools.workers.results import ProgressCallback
from traces.targets.common.scenario import Scenario

TRIES_MAX = 3
BROKEN = "\nraise RuntimeError('always broken')\n"
"""Text that makes a control of every module: it must be noticed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignPlan:
    """The input of a campaign.

    Attributes:
        root: directory that holds the target.
        files: mutated files.
        scenarios_max: scenarios that a mutant is run on at most; None for all that execute it.
        files_per_stack: files that a stack of refactors is applied to, drawn from those that
            scenarios execute; None for all files.
    """

    root: Path
    target: str
    files: tuple[str, ...]
    mutants: tuple[Mutant, ...]
    scenarios: Mapping[str, Scenario]
    settings: RunSettings
    scenarios_max: int | None
    files_per_stack: int | None = None

    @property
    def digest(self) -> str:
        """A text that campaigns of another source, device or list of scenarios do not have."""
        settings = (self.settings.device, self.settings.is_gate)
        found = sha256(repr((sorted(self.scenarios), settings)).encode())
        for file in self.files:
            found.update((self.root / file).read_bytes())
        return found.hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineRun:
    """The scenarios run on the unchanged code.

    Attributes:
        results: by scenario, in the order to run them.
        unsupported: the reason, by scenario.
        is_checked: whether the controls have been run; states that differ every time are gone.
    """

    results: Mapping[str, BaselineResult]
    unsupported: Mapping[str, str]
    is_checked: bool = False

    @property
    def reached(self) -> dict[str, frozenset[int]]:
        """Lines that any scenario executes, by file."""
        found: dict[str, frozenset[int]] = {}
        for result in self.results.values():
            for file, lines in result.reached.items():
                found[file] = found.get(file, frozenset()) | lines
        return found

    def reaching(self, mutant: Mutant) -> tuple[str, ...]:
        """Return the scenarios that execute a changed line, in the order to run them."""
        return tuple(
            name
            for name, result in self.results.items()
            if any(
                not result.reached.get(one.file, frozenset()).isdisjoint(one.lines)
                for one in mutant.changed_ranges
            )
        )


def run_baseline(
    plan: CampaignPlan, executor: TaskExecutor, *, on_finished: ProgressCallback
) -> BaselineRun:
    """Run every scenario on the unchanged code.

    Raises:
        ToolError: the target supports none.
    """
    tasks = [
        RunBaseline(scenario=scenario, settings=plan.settings, files=plan.files)
        for scenario in plan.scenarios.values()
    ]
    found: dict[str, BaselineResult] = {}
    for _, result in run_tasks(executor, tasks):
        on_finished(result.name)
        found[result.name] = result
    results = {name: one for name, one in found.items() if not one.reason}
    unsupported = {name: one.reason for name, one in found.items() if one.reason}
    if not results:
        raise ToolError("scenarios", "must be run", expected="at least one", got=unsupported)
    # First the cheapest scenario of every builder, then the second cheapest of each, and so on.
    turns: dict[str, int] = {}
    ranked = []
    for name in sorted(results, key=lambda name: (results[name].seconds, name)):
        builder = plan.scenarios[name].builder
        turns[builder] = turns.get(builder, 0) + 1
        ranked.append((turns[builder], name))
    ordered = {name: results[name] for _, name in sorted(ranked)}
    return BaselineRun(results=ordered, unsupported=unsupported)


def run_tasks(
    executor: TaskExecutor, tasks: Iterable[Task[Result]]
) -> Iterator[tuple[int, Result]]:
    """Yield the number of each task and its result, in the order of completion.

    Raises:
        ToolError: a task failed, or its worker was lost in every try.
    """
    for reply in executor.results(tasks, tries=TRIES_MAX):
        if isinstance(reply.result, TaskFailed):
            rule = f"must be carried out within {TRIES_MAX} tries"
            subject, got = type(reply.task).__name__, reply.result.reason
            raise ToolError(subject, rule, expected="a result", got=got)
        yield reply.number, reply.result


def run_campaign(
    plan: CampaignPlan,
    executor: TaskExecutor,
    journal: Journal,
    *,
    baseline: BaselineRun,
    on_finished: ProgressCallback,
) -> list[MutantResult]:
    """Run every mutant that the journal has no certain result of; return all results.

    Raises:
        ToolError: a task was lost too often.
    """
    executor.broadcast(LoadBaseline(scenarios=plan.scenarios, results=baseline.results))
    tasks: list[RunMutant] = []
    reaching: list[int] = []
    choice = ScenarioChoice(baseline.results)
    for mutant in plan.mutants:
        names = baseline.reaching(mutant)
        if _is_settled(journal.finished.get(mutant.id), plan=plan):
            on_finished(mutant.operator)
        elif mutant.is_equivalent or not names:
            journal.add(_result_without_run(mutant))
            on_finished(mutant.operator)
        else:
            reaching.append(len(names))
            names = choice.choose(mutant, names, scenarios_max=plan.scenarios_max)
            tasks.append(RunMutant(mutant=mutant, names=names, settings=plan.settings))
    for number, result in run_tasks(executor, tasks):
        journal.add(msgspec.structs.replace(result, reaching=reaching[number]))
        on_finished(result.operator)
    return [journal.finished[mutant.id] for mutant in plan.mutants]


def _is_settled(result: MutantResult | None, *, plan: CampaignPlan) -> bool:
    """Return whether more scenarios could change nothing about a result."""
    if result is None:
        return False
    runs = result.reaching if plan.scenarios_max is None else plan.scenarios_max
    is_open = result.verdict == "survived" or result.proof == "state"
    return not is_open or result.played >= min(runs, result.reaching)


def _result_without_run(mutant: Mutant) -> MutantResult:
    return MutantResult(
        id=mutant.id,
        operator=mutant.operator,
        key=mutant.key,
        label=mutant.label,
        verdict="equivalent" if mutant.is_equivalent else "unreached",
        proof="bytecode" if mutant.is_equivalent else "",
    )


def check_baseline(
    plan: CampaignPlan, executor: TaskExecutor, baseline: BaselineRun
) -> BaselineRun:
    """Run the controls; return the results without the states that differ every time.

    Raises:
        ToolError: a mutant that changes nothing is caught, or one that cannot run is not.
    """
    executor.broadcast(LoadBaseline(scenarios=plan.scenarios, results=baseline.results))
    names, reached = list(baseline.results), baseline.reached
    # One that is imported, in a release as well: its functions are executed.
    file = max(plan.files, key=lambda file: len(reached.get(file, ())))
    tasks = [
        *(_control(plan, "no_operation", "\n# nothing\n", file, name) for name in names),
        _control(plan, "always_broken", BROKEN, file, names[0]),
    ]
    results = dict(run_tasks(executor, tasks))
    for number, result in results.items():
        is_broken = number == len(names)
        expected = ("loud", "unjudged") if is_broken else ("equivalent", "survived")
        if result.verdict not in expected:
            rule = f"must be judged {' or '.join(expected)}, or no figure means anything"
            raise ToolError(f"control {result.operator}", rule, expected=expected[0], got=result)
    checked = {
        name: replace(baseline.results[name], state="")
        if results[number].verdict == "survived"
        else baseline.results[name]
        for number, name in enumerate(names)
    }
    return replace(baseline, results=checked, is_checked=True)


def _control(plan: CampaignPlan, operator: str, addition: str, file: str, name: str) -> RunMutant:
    mutant = Mutant(
        id=operator,
        operator=operator,
        key=operator,
        changed_ranges=(LineRange(file=file, first=1, last=1),),
        texts={file: (plan.root / file).read_text(encoding="utf-8") + addition},
    )
    return RunMutant(mutant=mutant, names=(name,), settings=plan.settings)
