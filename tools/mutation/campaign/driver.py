"""A campaign: controls, then every mutant on the scenarios that reach it, then the survivors."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tools.errors import ToolError
from tools.mutation.campaign.baseline_file import write_baseline
from tools.mutation.campaign.executors import Executor
from tools.mutation.campaign.journal import Journal
from tools.mutation.campaign.tasks import BaselineResult, MutantResult, RunBaseline, RunMutant
from tools.mutation.mutant import LineRange, Mutant
from tools.workers.results import ProgressCallback
from traces.targets.common.scenario import Scenario

SCENARIOS_AFTER_KILL = 3
"""Scenarios after the first kill that look whether a second field differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignPlan:
    """What a campaign does.

    Attributes:
        root: directory that holds the target.
        target: whose code.
        files: of it, that are mutated.
        mutants: to be judged.
        scenarios: to be played, by name.
        devices: where each is played, by beginning of a mutated path; the empty one is the rest.
        limit_seconds: time one scenario may take.
        scenarios_max: scenarios that a mutant is played on at most; None for all that reach it.
    """

    root: Path
    target: str
    files: tuple[str, ...]
    mutants: tuple[Mutant, ...]
    scenarios: Mapping[str, Scenario]
    devices: Mapping[str, str]
    limit_seconds: float
    scenarios_max: int | None

    def device_of(self, mutant: Mutant) -> str:
        """Return where a mutant is played."""
        file = mutant.changed_ranges[0].file
        return next(
            self.devices[start]
            for start in sorted(self.devices, key=len, reverse=True)
            if file.startswith(start)
        )

    @property
    def digest(self) -> str:
        """Tells this campaign from those of another source, device or list of scenarios."""
        found = sha256(repr(sorted(self.scenarios)).encode() + repr(self.devices).encode())
        for file in self.files:
            found.update((self.root / file).read_bytes())
        return found.hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineRun:
    """The code as it is, played.

    Attributes:
        plays: by device and scenario; in the order to play them.
        unplayable: why, by scenario.
    """

    baseline_results: Mapping[tuple[str, str], BaselineResult]
    unsupported: Mapping[str, str]

    def reaching(self, mutant: Mutant, *, device: str) -> tuple[str, ...]:
        """Return the scenarios that execute a changed line, in the order to play them."""
        return tuple(
            name
            for (where, name), play in self.baseline_results.items()
            if where == device and any(_executes(play, place) for place in mutant.changed_ranges)
        )

    def scenarios_on(self, device: str) -> tuple[str, ...]:
        """Return all scenarios of a device, in that order."""
        return tuple(name for where, name in self.baseline_results if where == device)


def _devices(plan: CampaignPlan) -> list[str]:
    return sorted({plan.devices[""], *(plan.device_of(mutant) for mutant in plan.mutants)})


def count_baseline_runs(plan: CampaignPlan) -> int:
    """Return how often :func:`rehearsed` reports progress."""
    return len(_devices(plan)) * len(plan.scenarios)


def run_baseline(
    plan: CampaignPlan, executor: Executor, *, on_played: ProgressCallback
) -> BaselineRun:
    """Play every scenario on the code as it is.

    Raises:
        ToolError: none can be played.
    """
    orders = [
        RunBaseline(scenario=scenario, device=device, files=plan.files)
        for device in _devices(plan)
        for scenario in plan.scenarios.values()
    ]
    plays: dict[tuple[str, str], BaselineResult] = {}
    unplayable: dict[str, str] = {}
    for number, play in executor.results(orders):
        on_played(play.name)
        if play.reason:
            unplayable[play.name] = play.reason
        else:
            plays[orders[number].device, play.name] = play
    if not plays:
        raise ToolError("scenarios", "must be played", expected="at least one", got=unplayable)
    order = _interleave_builders(plan, plays)
    return BaselineRun(baseline_results={key: plays[key] for key in order}, unsupported=unplayable)


def _interleave_builders(
    plan: CampaignPlan, baseline_results: Mapping[tuple[str, str], BaselineResult]
) -> list[tuple[str, str]]:
    """Return first the cheapest scenario of every builder, then the second cheapest, and so on."""
    turns: dict[tuple[str, str], int] = {}
    ranked = []
    for key in sorted(baseline_results, key=lambda key: (baseline_results[key].seconds, key)):
        builder = (key[0], plan.scenarios[key[1]].builder)
        turns[builder] = turns.get(builder, 0) + 1
        ranked.append((turns[builder], key))
    return [key for _, key in sorted(ranked)]


def run_campaign(
    plan: CampaignPlan,
    executor: Executor,
    journal: Journal,
    *,
    baseline_run: BaselineRun,
    on_finished: ProgressCallback,
) -> list[MutantResult]:
    """Judge every mutant that the journal does not know; return the fate of all.

    Raises:
        ToolError: a control fails, or an order was lost too often.
    """
    with tempfile.TemporaryDirectory() as folder:
        baseline = Path(folder) / "baseline"
        write_baseline(
            baseline, scenarios=plan.scenarios, baseline_results=baseline_run.baseline_results
        )
        executor.load(baseline)
        unstable = _run_controls(plan, executor, baseline_run)
        if unstable:
            write_baseline(
                baseline,
                scenarios=plan.scenarios,
                baseline_results=baseline_run.baseline_results,
                stateless=unstable,
            )
            executor.load(baseline)
        _run_mutants(plan, executor, journal, baseline_run=baseline_run, on_finished=on_finished)
    known = journal.finished
    return [known[mutant.id] for mutant in plan.mutants]


def _run_mutants(
    plan: CampaignPlan,
    executor: Executor,
    journal: Journal,
    *,
    baseline_run: BaselineRun,
    on_finished: ProgressCallback,
) -> None:
    orders: list[RunMutant] = []
    reaching: list[int] = []
    for mutant in plan.mutants:
        device = plan.device_of(mutant)
        names = baseline_run.reaching(mutant, device=device)
        if _is_settled(journal.finished.get(mutant.id), plan=plan):
            on_finished(mutant.operator)
        elif mutant.is_equivalent or not names:
            journal.add(_result_without_run(mutant))
            on_finished(mutant.operator)
        else:
            reaching.append(len(names))
            orders.append(_mutant_task(plan, mutant, names[: plan.scenarios_max], device=device))
    for number, fate in executor.results(orders):
        journal.add(_replace_fields(fate, reaching=reaching[number]))
        on_finished(fate.operator)


def _is_settled(result: MutantResult | None, *, plan: CampaignPlan) -> bool:
    """Tell whether more scenarios could tell nothing new about a mutant."""
    if result is None:
        return False
    could = (
        result.reaching if plan.scenarios_max is None else min(plan.scenarios_max, result.reaching)
    )
    is_open = result.verdict == "survived" or result.proof == "state"
    return not is_open or result.played >= could


def _mutant_task(
    plan: CampaignPlan, mutant: Mutant, names: tuple[str, ...], *, device: str
) -> RunMutant:
    return RunMutant(
        mutant=mutant,
        names=names,
        device=device,
        limit_seconds=plan.limit_seconds,
        scenarios_after_kill=SCENARIOS_AFTER_KILL,
    )


def _result_without_run(mutant: Mutant) -> MutantResult:
    return MutantResult(
        id=mutant.id,
        operator=mutant.operator,
        key=mutant.key,
        label=mutant.label,
        verdict="equivalent" if mutant.is_equivalent else "unreached",
        proof="bytecode" if mutant.is_equivalent else "",
    )


def _run_controls(
    plan: CampaignPlan, executor: Executor, baseline_run: BaselineRun
) -> frozenset[tuple[str, str]]:
    """Run the controls; return where the state left is not the same every time: it proves nothing.

    Raises:
        ToolError: a mutant that changes nothing is caught, or one that cannot run is not.
    """
    file = plan.files[0]
    text = (plan.root / file).read_text(encoding="utf-8")
    keys = list(baseline_run.baseline_results)
    noop = _control_mutant("no_operation", file, f"{text}\n# nothing\n")
    broken = _control_mutant(
        "always_broken", file, f"{text}\nraise RuntimeError('always broken')\n"
    )
    orders = [
        *(_mutant_task(plan, noop, (name,), device=device) for device, name in keys),
        _mutant_task(plan, broken, (keys[0][1],), device=keys[0][0]),
    ]
    fates = dict(executor.results(orders))
    for number, fate in fates.items():
        expected = ("loud",) if number == len(keys) else ("equivalent", "survived")
        if fate.verdict not in expected:
            rule = f"must be judged {' or '.join(expected)}, or no figure means anything"
            raise ToolError(f"control {fate.operator}", rule, expected=expected[0], got=fate)
    return frozenset(key for number, key in enumerate(keys) if fates[number].verdict == "survived")


def _control_mutant(operator: str, file: str, text: str) -> Mutant:
    return Mutant(
        id=operator,
        operator=operator,
        key=operator,
        changed_ranges=(LineRange(file=file, first=1, last=1),),
        functions=(),
        parameters=(),
        texts={file: text},
        is_equivalent=False,
    )


def _replace_fields(result: MutantResult, **changes: object) -> MutantResult:
    import msgspec

    return msgspec.structs.replace(result, **changes)


def _executes(play: BaselineResult, place: LineRange) -> bool:
    lines = play.reached.get(place.file, frozenset())
    return any(line in lines for line in range(place.first, place.last + 1))
