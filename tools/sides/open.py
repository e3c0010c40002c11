"""Open sides: prepared, with a pool of workers that runs their scenarios."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

from tools.console import progress
from tools.sides.environments.cache import PreparedSide
from tools.sides.kept.keeper import FoundRuns, SideKeeper
from tools.sides.kept.selection import describe_selection
from tools.sides.parse import Side
from tools.sides.results import SideResults
from tools.workers.pool import WorkerPool
from tools.workers.protocol import (
    ListBuilders,
    Reach,
    ReadImportReach,
    Result,
    RunResult,
    Task,
    TaskFailed,
    merge_reaches,
)
from tools.workers.results import (
    DifferenceCallback,
    RunResults,
    run_as_expected,
    run_in_turns,
    run_scenarios,
)
from traces.schema.canonical import parse_rendered, parse_sites
from traces.schema.model import Recording, Trace
from traces.targets.common.scenario import Scenario

_READ_MAX = 512

KeepPolicy: TypeAlias = Literal["all", "mostly new", "none"]
"""New runs to keep: all, those of a tree most of whose scenarios have to run, or none."""
PoolFactory: TypeAlias = Callable[[PreparedSide], AbstractContextManager[WorkerPool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSide:
    """One side with its workers, which start when needed.

    Attributes:
        pool: workers under both hash seeds.
        reach_pool: the same, for runs that are kept; None when none are.
        keeper: the kept runs of the side; None when none are.
        keeps_in_turns: see :class:`~tools.sides.targets.TargetSpec`.
    """

    side: Side
    prepared: PreparedSide
    pool: WorkerPool
    reach_pool: WorkerPool | None = None
    keeper: SideKeeper | None = None
    keeps_in_turns: bool = False

    @property
    def root(self) -> Path:
        """The directory that holds the side's package."""
        return self.prepared.root

    def call(self, task: Task[Result]) -> Result:
        """Run one task in a worker that is there already, if one is.

        Raises:
            ToolError: a worker cannot be started, or the task failed.
        """
        warm = self.reach_pool is not None and self.reach_pool.is_warm
        pool = self.reach_pool if warm and self.reach_pool is not None else self.pool
        return pool.call(task)

    def run(
        self, scenarios: Sequence[Scenario], *, device: str, lists_builders: bool = True
    ) -> SideResults:
        """Run scenarios and list the builders; one warm worker stays for what follows.

        Raises:
            ToolError: the side cannot be imported.
        """
        return PlannedRun(
            opened=self,
            pool=self.pool,
            scenarios=tuple(scenarios),
            device=device,
            lists_builders=lists_builders,
        ).run()

    def plan(
        self,
        scenarios: Sequence[Scenario],
        *,
        device: str,
        lists_builders: bool,
        runs_all: bool,
        keeps: KeepPolicy,
    ) -> "PlannedRun":
        """Decide on a run of the scenarios that no kept run stands for.

        All are run when ``runs_all``: as the others, under one hash seed in turn where a kept run
        says what is expected. Runs that are kept take longer, because what they reach is recorded:
        ``keeps`` says which ones that is worth.
        """
        if self.keeper is None or self.reach_pool is None:
            return PlannedRun(
                opened=self,
                pool=self.pool,
                scenarios=tuple(scenarios),
                device=device,
                lists_builders=lists_builders,
            )
        found = self.keeper.find(scenarios)
        if runs_all:
            found = replace(found, by_scenario={}, change=None)
        is_mostly_new = 2 * len(found.by_scenario) < len(scenarios)
        is_kept = keeps == "all" or (keeps == "mostly new" and is_mostly_new)
        return PlannedRun(
            opened=self,
            pool=self.reach_pool if is_kept else self.pool,
            scenarios=tuple(scenarios),
            found=found,
            device=device,
            lists_builders=lists_builders or is_kept,
            keeps=is_kept,
        )

    def unexecuted(self, head: "OpenSide", scenarios: Sequence[Scenario]) -> tuple[str, ...]:
        """Return changed functions of a head that no run of this side executes, as far as known."""
        if self.keeper is None or head.keeper is None:
            return ()
        return self.keeper.unexecuted(head.keeper.tree, scenarios)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """A run of one side that is decided on.

    Attributes:
        pool: workers that it will use.
        found: kept runs, which are not repeated.
        keeps: whether the new runs are kept.
    """

    opened: OpenSide
    pool: WorkerPool
    scenarios: tuple[Scenario, ...]
    device: str
    lists_builders: bool
    found: FoundRuns = field(default_factory=FoundRuns)
    keeps: bool = False
    _start: float = field(default_factory=time.perf_counter)

    @property
    def missing(self) -> tuple[Scenario, ...]:
        """The scenarios that have to be run."""
        return tuple(one for one in self.scenarios if one.name not in self.found.by_scenario)

    @property
    def _runs_in_turns(self) -> bool:
        return self.opened.keeps_in_turns if self.keeps else bool(self.found.expected)

    def start_workers(self) -> None:
        """Start the workers that the run needs: they import while other work goes on.

        Raises:
            ToolError: a worker cannot be started.
        """
        self.pool.start(len(self.missing), in_turns=self._runs_in_turns)

    def run(self, on_difference: DifferenceCallback = lambda *_: None) -> SideResults:
        """Run what is not found; return everything in the order asked.

        ``on_difference`` is called as soon as a run is not the one that is expected.

        Raises:
            ToolError: the side cannot be imported.
        """
        scenarios, found, missing = self.scenarios, self.found, self.missing
        # The longest first: a long one that is started last would be waited for alone. Not so runs
        # that are kept: in their own order a scenario has the same hash seed on every release.
        seconds = {} if self.keeps else found.seconds
        ordered = sorted(missing, key=lambda one: -seconds.get(one.name, 0.0))
        played = RunResults(by_scenario={}, unplayable={}, problems=(), reaches={})
        in_turns: tuple[str, ...] = ()
        if ordered:
            title = f"running {self.opened.side.text}"
            weights = {
                one.name: found.seconds[one.name] for one in ordered if found.seconds.get(one.name)
            }
            with progress(title, total=len(ordered), weights=weights) as on_run:
                pool, device = self.pool, self.device
                if self._runs_in_turns and self.keeps:
                    played = run_in_turns(pool, ordered, device=device, on_run=on_run)
                elif self._runs_in_turns:
                    played, in_turns = run_as_expected(
                        pool,
                        ordered,
                        device=device,
                        expected=found.expected,
                        on_run=on_run,
                        on_difference=on_difference,
                    )
                else:
                    played = run_scenarios(pool, ordered, device=device, on_run=on_run)
        builders = self._builders(found)
        if self.keeps and ordered:
            self._keep(played, ordered, builders=builders)
        self.pool.shrink(1)
        results = self._combine(scenarios, played=played, found=found, builders=builders)
        selection = describe_selection(found, total=len(scenarios), in_turns=len(in_turns))
        return replace(results, selection=selection)

    def _builders(self, found: FoundRuns) -> tuple[str, ...]:
        if not self.lists_builders:
            return ()
        return self.pool.call(ListBuilders()) if found.builders is None else found.builders

    def _keep(
        self, played: RunResults, scenarios: Sequence[Scenario], *, builders: tuple[str, ...]
    ) -> None:
        assert self.opened.keeper is not None
        imports: list[Reach] = []
        for reply in self.pool.results([ReadImportReach(device=self.device)]):
            if reply.result is None or isinstance(reply.result, TaskFailed):
                return
            imports.append(reply.result)
        results: dict[str, RunResult | str] = {**played.by_scenario, **played.unplayable}
        self.opened.keeper.keep(
            results,
            played.reaches,
            scenarios=scenarios,
            imports=merge_reaches(imports),
            builders=builders,
        )

    def _combine(
        self,
        scenarios: Sequence[Scenario],
        *,
        played: RunResults,
        found: FoundRuns,
        builders: tuple[str, ...],
    ) -> SideResults:
        kept = {name: one.run for name, one in found.by_scenario.items()}
        texts: dict[str, tuple[str, str]] = {
            name: (one.text, one.sites) for name, one in played.by_scenario.items()
        }
        texts |= {name: (run.text, run.sites) for name, run in kept.items() if not run.reason}
        unplayable = {name: run.reason for name, run in kept.items() if run.reason}
        names = [one.name for one in scenarios]
        return SideResults(
            recordings={
                name: read_recording(name, *texts[name]) for name in names if name in texts
            },
            texts={name: texts[name][0] for name in names if name in texts},
            unplayable=_in_order(names, {**unplayable, **played.unplayable}),
            problems=played.problems,
            builders=builders,
            seconds=time.perf_counter() - self._start,
            kept=tuple(name for name in names if name in kept),
        )


def read_recording(name: str, text: str, sites: str) -> Recording:
    """Return the recording of a scenario from its canonical trace and the JSON of its sites."""
    return Recording(
        trace=_read_trace(name, text),
        sites=parse_sites(sites, subject=name) if sites else None,
    )


@lru_cache(maxsize=_READ_MAX)
def _read_trace(name: str, text: str) -> Trace:
    """Return a trace, read once where both sides have the same."""
    return parse_rendered(text, subject=name)


def _in_order(names: Sequence[str], found: Mapping[str, str]) -> dict[str, str]:
    return {name: found[name] for name in names if name in found}
