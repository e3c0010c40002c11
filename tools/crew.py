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
from tools.launching import Launcher, Process
from tools.playing import HASH_SEEDS, OnPlayed, Playing, sorted_out
from tools.stage import (
    Builders,
    Done,
    Play,
    Provenance,
    Ready,
    Refused,
    Replay,
    Reply,
    Request,
)
from traces.divergence import CallLog, LineLog
from traces.scenarios import Scenario

START_LIMIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    seed: int
    request: Request


@dataclass(slots=True, kw_only=True)
class _Worker:
    seed: int
    process: Process
    connection: Connection
    deadline: float
    ready: bool = False
    job: _Job | None = None


@dataclass(slots=True)
class Crew:
    """Worker processes for one side; they start when needed and end with the ``with`` block.

    Attributes:
        launcher: starts them.
        size: workers for each hash seed.
        limit_seconds: time one scenario may take.
    """

    launcher: Launcher
    size: int
    limit_seconds: float
    _workers: list[_Worker] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in list(self._workers):
            self._dismiss(worker)

    def play(self, scenarios: Sequence[Scenario], *, device: str, on_played: OnPlayed) -> Playing:
        """Play every scenario once under each hash seed.

        Raises:
            ToolError: the target cannot be imported.
        """
        jobs = [
            _Job(seed=seed, request=Play(scenario=scenario, device=device))
            for scenario in scenarios
            for seed in HASH_SEEDS
        ]
        replies: dict[str, dict[int, Reply]] = {scenario.name: {} for scenario in scenarios}
        for job, reply in self._answers(jobs):
            assert isinstance(job.request, Play)
            name = job.request.scenario.name
            replies[name][job.seed] = reply
            if len(replies[name]) == len(HASH_SEEDS):
                on_played(name)
        return sorted_out(replies)

    def replay(
        self, scenario: Scenario, *, device: str, call: tuple[str, int] | None
    ) -> CallLog | LineLog:
        """Play a scenario again; return the log of its calls, or of the lines of one call.

        Raises:
            ToolError: the target cannot be imported, or not be played again.
        """
        found = self._only_answer(Replay(scenario=scenario, device=device, call=call))
        assert isinstance(found, Done)
        log: CallLog | LineLog = found.result
        return log

    def builders(self) -> tuple[str, ...]:
        """Return the names of all stack builders of the side.

        Raises:
            ToolError: the target cannot be imported or searched.
        """
        found = self._only_answer(Builders())
        assert isinstance(found, tuple)
        return found

    def provenance(self, *, device: str) -> dict[str, str]:
        """Return device and versions of what plays.

        Raises:
            ToolError: the target cannot be imported.
        """
        found = self._only_answer(Provenance(device=device))
        assert isinstance(found, dict)
        return found

    def _only_answer(self, request: Request) -> Reply:
        seed = self._workers[0].seed if self._workers else HASH_SEEDS[0]
        [(_, reply)] = self._answers([_Job(seed=seed, request=request)])
        if isinstance(reply, Refused):
            asked = type(request).__name__.lower()
            raise ToolError("target", f"must tell its {asked}", expected="them", got=reply.reason)
        return reply

    def _answers(self, jobs: Sequence[_Job]) -> Iterator[tuple[_Job, Reply]]:
        queues = {seed: deque(job for job in jobs if job.seed == seed) for seed in HASH_SEEDS}
        while True:
            self._staff(queues)
            busy = [worker for worker in self._workers if worker.job or not worker.ready]
            if not busy:
                return
            patience = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
            heard = wait([worker.connection for worker in busy], timeout=patience)
            for worker in busy:
                if worker.connection in heard:
                    yield from self._listen(worker)
                elif time.monotonic() >= worker.deadline:
                    self._dismiss(worker)
                    yield self._lost(worker, "a worker that gave none in time")

    def _staff(self, queues: Mapping[int, deque[_Job]]) -> None:
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
                self._workers.append(self._started(seed))

    def _listen(self, worker: _Worker) -> Iterator[tuple[_Job, Reply]]:
        try:
            reply: Reply = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            code = worker.process.exit_code(patience_seconds=5)
            self._dismiss(worker)
            yield self._lost(worker, f"a worker that ended with code {code}")
            return
        if worker.job is not None:
            job, worker.job = worker.job, None
            yield job, reply
        elif isinstance(reply, Ready):
            worker.ready = True
        else:
            assert isinstance(reply, Refused)
            raise ToolError(
                "target", "must be importable", expected=self.launcher.root, got=reply.reason
            )

    def _lost(self, worker: _Worker, got: str) -> tuple[_Job, Reply]:
        if worker.job is None:
            raise ToolError("worker", "must start", expected="a process that answers", got=got)
        return worker.job, Refused(reason=got)

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.end()

    def _started(self, seed: int) -> _Worker:
        process, connection = self.launcher.start(seed=seed)
        deadline = time.monotonic() + START_LIMIT_SECONDS
        return _Worker(seed=seed, process=process, connection=connection, deadline=deadline)


def open_crew(launcher: Launcher, *, limit_seconds: float) -> Crew:
    """Return a crew that uses all cores."""
    size = max(1, core_num() // len(HASH_SEEDS))
    return Crew(launcher=launcher, size=size, limit_seconds=limit_seconds)


def core_num() -> int:
    """Return how many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    count = os.cpu_count()
    return 1 if count is None else count
