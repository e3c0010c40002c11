"""Open sides: prepared, with a pool of workers that runs their scenarios."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tools.console import progress
from tools.sides.environments.cache import PreparedSide
from tools.sides.parse import Side
from tools.sides.results import SideResults
from tools.workers.pool import WorkerPool
from tools.workers.protocol import ListBuilders
from tools.workers.results import run_scenarios
from traces.schema.canonical import parse, parse_sites
from traces.schema.model import Recording
from traces.targets.common.scenario import Scenario

PoolFactory: TypeAlias = Callable[[PreparedSide], AbstractContextManager[WorkerPool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSide:
    """One side with its workers, which start when needed.

    Attributes:
        root: directory that holds the side's package.
        pool: workers under both hash seeds.
    """

    side: Side
    root: Path
    pool: WorkerPool

    def run(
        self, scenarios: Sequence[Scenario], *, device: str, lists_builders: bool = True
    ) -> SideResults:
        """Run scenarios and list the builders; one warm worker stays for what follows.

        Raises:
            ToolError: the side cannot be imported.
        """
        start = time.perf_counter()
        with progress(f"running {self.side.text}", total=len(scenarios)) as on_run:
            results = run_scenarios(self.pool, scenarios, device=device, on_run=on_run)
        builders = self.pool.call(ListBuilders()) if lists_builders else ()
        self.pool.shrink(1)
        seconds = time.perf_counter() - start
        return SideResults(
            recordings={
                name: Recording(
                    trace=parse(result.text, subject=name),
                    sites=parse_sites(result.sites, subject=name) if result.sites else None,
                )
                for name, result in results.by_scenario.items()
            },
            texts={name: result.text for name, result in results.by_scenario.items()},
            unplayable=results.unplayable,
            problems=results.problems,
            builders=builders,
            seconds=seconds,
        )
