"""Plays scenarios in worker processes, each of them under two hash seeds.

A crew knows what every one of its workers is doing, so a worker that dies or hangs costs one
scenario, which is named; the others are played to the end by a replacement.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Self

from tools.errors import ToolError
from tools.workers.launch import WorkerLauncher, WorkerProcess
from tools.workers.protocol import (
    FailedRequest,
    ListBuilders,
    ReadProvenance,
    ReplayScenario,
    RequestResult,
    RunScenario,
    WorkerReady,
    WorkerReply,
    WorkerRequest,
)
from tools.workers.results import HASH_SEEDS, ProgressCallback, RunResults, combine_replies
from traces.divergence import CallLog, LineLog
from traces.targets.native.scenarios import NativeScenario

START_LIMIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    seed: int
    request: WorkerRequest


@dataclass(slots=True, kw_only=True)
class _PoolWorker:
    seed: int
    process: WorkerProcess
    connection: Connection
    deadline: float
    ready: bool = False
    job: _Job | None = None


@dataclass(slots=True)
class WorkerPool:
    """Worker processes for one side; they start when needed and end with the ``with`` block.

    Attributes:
        launcher: starts them.
        size: workers for each hash seed.
        limit_seconds: time one scenario may take.
    """

    launcher: WorkerLauncher
    size: int
    limit_seconds: float
    _workers: list[_PoolWorker] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in list(self._workers):
            self._stop_worker(worker)

    def run(
        self, scenarios: Sequence[NativeScenario], *, device: str, on_played: ProgressCallback
    ) -> RunResults:
        """Play every scenario once under each hash seed.

        Raises:
            ToolError: the target cannot be imported.
        """
        jobs = [
            _Job(seed=seed, request=RunScenario(scenario=scenario, device=device))
            for scenario in scenarios
            for seed in HASH_SEEDS
        ]
        replies: dict[str, dict[int, WorkerReply]] = {scenario.name: {} for scenario in scenarios}
        for job, reply in self._run_jobs(jobs):
            assert isinstance(job.request, RunScenario)
            name = job.request.scenario.name
            replies[name][job.seed] = reply
            if len(replies[name]) == len(HASH_SEEDS):
                on_played(name)
        return combine_replies(replies)

    def replay(
        self, scenario: NativeScenario, *, device: str, call: tuple[str, int] | None
    ) -> CallLog | LineLog:
        """Play a scenario again; return the log of its calls, or of the lines of one call.

        Raises:
            ToolError: the target cannot be imported, or not be played again.
        """
        found = self._run_request(ReplayScenario(scenario=scenario, device=device, call=call))
        assert isinstance(found, RequestResult)
        log: CallLog | LineLog = found.result
        return log

    def builders(self) -> tuple[str, ...]:
        """Return the names of all stack builders of the side.

        Raises:
            ToolError: the target cannot be imported or searched.
        """
        found = self._run_request(ListBuilders())
        assert isinstance(found, tuple)
        return found

    def provenance(self, *, device: str) -> dict[str, str]:
        """Return device and versions of what plays.

        Raises:
            ToolError: the target cannot be imported.
        """
        found = self._run_request(ReadProvenance(device=device))
        assert isinstance(found, dict)
        return found

    def _run_request(self, request: WorkerRequest) -> WorkerReply:
        seed = self._workers[0].seed if self._workers else HASH_SEEDS[0]
        [(_, reply)] = self._run_jobs([_Job(seed=seed, request=request)])
        if isinstance(reply, FailedRequest):
            rule = f"must answer {type(request).__name__}"
            raise ToolError("target", rule, expected="a result", got=reply.reason)
        return reply

    def _run_jobs(self, jobs: Sequence[_Job]) -> Iterator[tuple[_Job, WorkerReply]]:
        queues = {seed: deque(job for job in jobs if job.seed == seed) for seed in HASH_SEEDS}
        while True:
            self._assign_jobs(queues)
            busy = [worker for worker in self._workers if worker.job or not worker.ready]
            if not busy:
                return
            patience = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
            heard = wait([worker.connection for worker in busy], timeout=patience)
            for worker in busy:
                if worker.connection in heard:
                    yield from self._receive(worker)
                elif time.monotonic() >= worker.deadline:
                    self._stop_worker(worker)
                    yield self._lost_job(worker, "a worker that gave none in time")

    def _assign_jobs(self, queues: Mapping[int, deque[_Job]]) -> None:
        """Give waiting jobs to idle workers, starting workers where there are too few."""
        for seed, queue in queues.items():
            hands = [worker for worker in self._workers if worker.seed == seed]
            for worker in hands:
                if queue and worker.ready and worker.job is None:
                    worker.job = queue.popleft()
                    worker.deadline = time.monotonic() + self.limit_seconds
                    with suppress(OSError):  # a worker that just died is heard as such
                        worker.connection.send(worker.job.request)
            starting = sum(not worker.ready for worker in hands)
            for _ in range(min(self.size - len(hands), len(queue) - starting)):
                self._workers.append(self._start_worker(seed))

    def _receive(self, worker: _PoolWorker) -> Iterator[tuple[_Job, WorkerReply]]:
        try:
            reply: WorkerReply = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            code = worker.process.exit_code(timeout_seconds=5)
            self._stop_worker(worker)
            yield self._lost_job(worker, f"a worker that ended with code {code}")
            return
        if worker.job is not None:
            job, worker.job = worker.job, None
            yield job, reply
        elif isinstance(reply, WorkerReady):
            worker.ready = True
        else:
            assert isinstance(reply, FailedRequest)
            raise ToolError(
                "target", "must be importable", expected=self.launcher.root, got=reply.reason
            )

    def _lost_job(self, worker: _PoolWorker, got: str) -> tuple[_Job, WorkerReply]:
        if worker.job is None:
            raise ToolError("worker", "must start", expected="a process that answers", got=got)
        return worker.job, FailedRequest(reason=got)

    def _stop_worker(self, worker: _PoolWorker) -> None:
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.end()

    def _start_worker(self, seed: int) -> _PoolWorker:
        process, connection = self.launcher.start(seed=seed)
        deadline = time.monotonic() + START_LIMIT_SECONDS
        return _PoolWorker(seed=seed, process=process, connection=connection, deadline=deadline)


def open_worker_pool(launcher: WorkerLauncher, *, limit_seconds: float) -> WorkerPool:
    """Return a crew that uses all cores."""
    size = max(1, core_count() // len(HASH_SEEDS))
    return WorkerPool(launcher=launcher, size=size, limit_seconds=limit_seconds)


def core_count() -> int:
    """Return how many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    count = os.cpu_count()
    return 1 if count is None else count
