"""Runs random traffic in worker processes and says what it found, the same on every machine."""

import gc
import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tools.errors import ToolError
from tools.workers.pool import core_count
from tools.workers.protocol import NativeWorker
from tools.workers.results import ProgressCallback
from traces.explore import draw_config

if TYPE_CHECKING:
    from traces.explore import TrafficConfig, TrafficReplay
    from traces.targets.native.scenarios import NativeScenario

# So few that a builder that fails is known soon, so many that sending them costs nothing.
RUNS_PER_BATCH = 10

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """What to explore.

    Attributes:
        root: directory that holds ``assembler/``.
        scenarios: of all builders, by name.
        seed: of everything.
        run_num: runs of each builder.
        step_num: steps of each run, before shrinking.
        builders: whose turn it is.
        policies: of the schedules.
    """

    root: Path
    scenarios: Mapping[str, "NativeScenario"]
    seed: int
    run_num: int
    step_num: int
    builders: tuple[str, ...]
    policies: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplorationFinding:
    """The first violation of a builder.

    Attributes:
        builder: whose.
        run: number of the run, from 0.
        replay: how to see it again.
    """

    builder: str
    run: int
    replay: "TrafficReplay"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    builder: str
    step_num: int
    cases: "tuple[tuple[int, TrafficConfig], ...]"


def explore(exploration: Exploration, *, on_batch: ProgressCallback) -> list[ExplorationFinding]:
    """Explore every builder; return the first violation of each that has one.

    What is returned depends on the exploration and not on which worker was faster.

    Raises:
        ToolError: a worker died, or the target cannot be imported.
    """
    findings: dict[str, ExplorationFinding] = {}
    with _open_workers(exploration.root) as pool:
        # Cases are drawn here: only the parent knows the scenarios without computing them.
        waiting = [(batch, pool.submit(_explore_batch, batch)) for batch in _batches(exploration)]
        for batch, future in waiting:
            if batch.builder in findings:
                future.cancel()
            else:
                finding = _result_of(future)
                if finding is not None:
                    findings[batch.builder] = finding
            on_batch(batch.builder)
    return [findings[builder] for builder in exploration.builders if builder in findings]


def rerun_replay(root: Path, replay: "TrafficReplay") -> "TrafficReplay | None":
    """Take the steps of a replay without Hypothesis; return it with what they violate now.

    Raises:
        ToolError: the worker died, or the target cannot be imported.
    """
    with _open_workers(root) as pool:
        return _result_of(pool.submit(_rerun, replay))


def batch_count(exploration: Exploration) -> int:
    """Return how often :func:`explore` reports progress."""
    return -(-exploration.run_num // RUNS_PER_BATCH) * len(exploration.builders)


def _batches(exploration: Exploration) -> Iterator[_Batch]:
    """Yield the batches in turns, so that every builder has its first runs soon."""
    for start in range(0, exploration.run_num, RUNS_PER_BATCH):
        runs = range(start, min(start + RUNS_PER_BATCH, exploration.run_num))
        for builder in exploration.builders:
            cases = tuple((run, _draw_case(exploration, builder, run)) for run in runs)
            yield _Batch(builder=builder, step_num=exploration.step_num, cases=cases)


def _draw_case(exploration: Exploration, builder: str, run: int) -> "TrafficConfig":
    return draw_config(
        scenarios=exploration.scenarios,
        builder=builder,
        seed=exploration.seed,
        run=run,
        policies=exploration.policies,
    )


@contextmanager
def _open_workers(root: Path) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(
        max_workers=core_count(),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_initialise_worker,
        initargs=(root,),
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _result_of(future: "Future[Answer]") -> Answer:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ToolError("worker", "must live", expected="an answer", got=error) from error


def _initialise_worker(root: Path) -> None:
    """Prepare a process: the parent owns interrupts and stdout."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    NativeWorker(root)
    # What a builder warns of is the scenario's business.
    logging.getLogger("assembler").setLevel(logging.ERROR)
    # Nothing imported so far ever becomes garbage, and each run makes some.
    gc.freeze()


def _explore_batch(batch: _Batch) -> ExplorationFinding | None:
    from traces.explore.traffic_machine import find_violation
    from traces.targets.native.explore.subject import NativeTrafficSubject

    for run, case in batch.cases:
        replay = find_violation(
            case, open_subject=NativeTrafficSubject, step_num=batch.step_num, shrinks=True
        )
        if replay is not None:
            return ExplorationFinding(builder=batch.builder, run=run, replay=replay)
    return None


def _rerun(replay: "TrafficReplay") -> "TrafficReplay | None":
    import msgspec

    from traces.explore import run_steps
    from traces.targets.native.explore.subject import NativeTrafficSubject

    violation = run_steps(replay.case, replay.steps, open_subject=NativeTrafficSubject)
    if violation is None:
        return None
    return msgspec.structs.replace(replay, invariant=violation.invariant, message=str(violation))
