"""Exploration of every builder with random traffic; the result does not depend on timing."""

import gc
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from tools.errors import ToolError
from tools.workers.launch import WorkerLauncher
from tools.workers.native import NativeWorker
from tools.workers.pool import WorkerPool, core_count
from tools.workers.protocol import Handlers, Task, TaskFailed
from tools.workers.results import ProgressCallback
from traces.explore import draw_config

if TYPE_CHECKING:
    from traces.explore import TrafficConfig, TrafficReplay
    from traces.targets.common.scenario import Scenario

# Few enough to find a failing builder soon, enough to make the cost of sending them small.
RUNS_PER_BATCH = 10
# Shrinking ends by limits of its own; this one only ends a worker that hangs.
BATCH_LIMIT_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """Settings: ``run_num`` runs of ``step_num`` steps, before shrinking, for each builder.

    ``root`` holds ``assembler/``; ``policies`` are those of the schedules.
    """

    root: Path
    scenarios: Mapping[str, "Scenario"]
    seed: int
    run_num: int
    step_num: int
    builders: tuple[str, ...]
    policies: tuple[str, ...]

    @property
    def batch_count(self) -> int:
        """Number of times that :func:`explore` reports progress."""
        return -(-self.run_num // RUNS_PER_BATCH) * len(self.builders)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorationFinding:
    """The first violation of a builder: number of the run, from 0, and steps that show it."""

    builder: str
    run: int
    replay: "TrafficReplay"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExploreBatch(Task[ExplorationFinding | None]):
    """Run some configurations of one builder and return the first violation, shrunk."""

    builder: str
    step_num: int
    configs: "tuple[tuple[int, TrafficConfig], ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunReplay(Task["TrafficReplay | None"]):
    """Run the steps of a replay without Hypothesis; return it with what they violate now."""

    replay: "TrafficReplay"


class ExplorationWorker(NativeWorker):
    """Runs random traffic on the ``assembler`` that lies under one root."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        # Random traffic makes builders warn all the time; only violations count.
        logging.getLogger("assembler").setLevel(logging.ERROR)
        # Each run leaves garbage; collecting it need not visit everything imported so far.
        gc.freeze()

    @property
    @override
    def handlers(self) -> Handlers:
        """The task types this class handles."""
        return {ExploreBatch: self.explore_batch, RerunReplay: self.rerun_replay}

    def explore_batch(self, task: ExploreBatch) -> ExplorationFinding | None:
        """Run the configurations of a batch in order; return the first violation."""
        from traces.explore.traffic_machine import find_violation
        from traces.targets.native.explore.subject import NativeTrafficSubject

        for run, config in task.configs:
            replay = find_violation(
                config, open_subject=NativeTrafficSubject, step_num=task.step_num, shrinks=True
            )
            if replay is not None:
                return ExplorationFinding(builder=task.builder, run=run, replay=replay)
        return None

    def rerun_replay(self, task: RerunReplay) -> "TrafficReplay | None":
        """Run the steps of a replay; return it with the violation it shows now."""
        import msgspec

        from traces.explore import run_steps
        from traces.targets.native.explore.subject import NativeTrafficSubject
        from traces.targets.native.scenarios import scenario_of_config

        kept = task.replay
        config = kept.traffic_config(scenario_of_config)
        violation = run_steps(config, kept.steps, open_subject=NativeTrafficSubject)
        if violation is None:
            return None
        return msgspec.structs.replace(kept, invariant=violation.invariant, message=str(violation))


def explore(exploration: Exploration, *, on_batch: ProgressCallback) -> list[ExplorationFinding]:
    """Explore every builder; return the first violation of each that has one.

    The result depends on the settings and not on which worker was faster: batches of a builder are
    sent in order, and only those after a violation are left out.

    Raises:
        ToolError: a batch failed, or the target cannot be imported.
    """
    findings: dict[str, ExplorationFinding] = {}

    def unfinished_batches() -> Iterator[ExploreBatch]:
        for batch in _batches(exploration):
            if batch.builder in findings:
                on_batch(batch.builder)
            else:
                yield batch

    with open_exploration_pool(exploration.root, size=core_count()) as pool:
        for reply in pool.results(unfinished_batches()):
            found = reply.result
            if isinstance(found, TaskFailed):
                rule = "must be explored"
                raise ToolError("traffic", rule, expected="a result", got=found.reason)
            if found is not None:
                earlier = findings.get(found.builder)
                if earlier is None or found.run < earlier.run:
                    findings[found.builder] = found
            assert isinstance(reply.task, ExploreBatch)
            on_batch(reply.task.builder)
    return [findings[builder] for builder in exploration.builders if builder in findings]


def open_exploration_pool(root: Path, *, size: int) -> WorkerPool:
    """Return a pool whose workers run random traffic."""
    launcher = WorkerLauncher(worker_class="tools.workers.exploration:ExplorationWorker", root=root)
    return WorkerPool(launcher=launcher, size=size, limit_seconds=BATCH_LIMIT_SECONDS)


def _batches(exploration: Exploration) -> Iterator[ExploreBatch]:
    """Yield the batches in turns, so that every builder has its first runs soon.

    Configurations are drawn here: only this process knows the scenarios without computing them.
    """
    for start in range(0, exploration.run_num, RUNS_PER_BATCH):
        runs = range(start, min(start + RUNS_PER_BATCH, exploration.run_num))
        for builder in exploration.builders:
            draw = partial(
                draw_config,
                scenarios=exploration.scenarios,
                builder=builder,
                seed=exploration.seed,
                policies=exploration.policies,
            )
            configs = tuple((run, draw(run=run)) for run in runs)
            yield ExploreBatch(builder=builder, step_num=exploration.step_num, configs=configs)
