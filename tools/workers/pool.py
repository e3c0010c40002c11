"""Pool of worker processes, the only one in this project.

The pool keeps the current task of every worker, so a worker that dies or hangs costs one task,
which is named; a replacement runs the others.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from typing import Any, Self, TypeAlias

from tools.errors import ToolError
from tools.workers.launch import WorkerLauncher, WorkerProcess
from tools.workers.protocol import Result, Task, TaskFailed, TaskReply, WorkerReady

START_LIMIT_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One task for one worker; ``number`` is None for a broadcast task."""

    number: int | None
    task: Task[Any]
    attempt: int = 1


@dataclass(slots=True, kw_only=True)
class _PoolWorker:
    seed: int
    process: WorkerProcess
    connection: Connection
    deadline: float
    setup: dict[type, Task[Any]]
    """Broadcast tasks that this worker has not run yet."""
    is_ready: bool = False
    job: _Job | None = None

    @property
    def is_idle(self) -> bool:
        return self.is_ready and self.job is None

    def send(self, job: _Job, *, limit_seconds: float) -> None:
        self.job = job
        self.deadline = time.monotonic() + limit_seconds
        with suppress(OSError):  # a worker that has just died is found by its closed connection
            self.connection.send(job.task)


_Queues: TypeAlias = Mapping[int, deque[_Job]]
_Answers: TypeAlias = Iterator[tuple[_PoolWorker, _Job, object]]


@dataclass(slots=True, kw_only=True)
class WorkerPool:
    """Worker processes for one side; they start when needed and end with the ``with`` block.

    :mod:`tools.workers.protocol` describes the use.

    Attributes:
        launcher: starts them.
        size: workers for each hash seed.
        limit_seconds: time one task may take.
        seeds: hash seeds; every task of :meth:`results` runs once under each.
        start_limit_seconds: time a worker may take to import its target.
    """

    launcher: WorkerLauncher
    size: int
    limit_seconds: float
    seeds: tuple[int, ...] = (0,)
    start_limit_seconds: float = START_LIMIT_SECONDS
    _workers: list[_PoolWorker] = field(default_factory=list)
    _setup: dict[type, Task[Any]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for worker in list(self._workers):
            self._stop_worker(worker)

    def broadcast(self, task: Task[Any]) -> None:
        """Run a task in every worker before its next other task, also in workers to come.

        It replaces an earlier broadcast task of its type. Its result is dropped.
        """
        self._setup[type(task)] = task
        for worker in self._workers:
            worker.setup[type(task)] = task

    def results(
        self, tasks: Iterable[Task[Result]], *, tries: int = 1, in_turns: bool = False
    ) -> Iterator[TaskReply[Result]]:
        """Yield the reply to each task under each hash seed, in the order of completion.

        When ``in_turns``, each task runs under one hash seed only: the next one in turn.

        Tasks are drawn only as workers become free. One whose worker dies or hangs is run up to
        ``tries`` times, then answered with a lost :class:`TaskFailed`.

        Raises:
            ToolError: a worker cannot be started, or a broadcast task failed in it.
        """
        return self._run_tasks(tasks, seeds=self.seeds, tries=tries, in_turns=in_turns)

    def call(self, task: Task[Result]) -> Result:
        """Run one task in one worker and return its result.

        Raises:
            ToolError: a worker cannot be started, or the task failed.
        """
        seeds = (self._workers[0].seed if self._workers else self.seeds[0],)
        [reply] = self._run_tasks([task], seeds=seeds, tries=1)
        if isinstance(reply.result, TaskFailed):
            rule = f"must answer {type(task).__name__}"
            raise ToolError("target", rule, expected="a result", got=reply.result.reason)
        return reply.result

    @property
    def is_warm(self) -> bool:
        """True if a worker is there that need not be started."""
        return bool(self._workers)

    def start(self, task_num: int, *, in_turns: bool) -> None:
        """Start the workers that so many tasks need: they import their target meanwhile.

        For ``in_turns`` see :meth:`results`.

        Raises:
            ToolError: a worker cannot be started.
        """
        for place, seed in enumerate(self.seeds):
            tasks = len(range(place, task_num, len(self.seeds))) if in_turns else task_num
            known = sum(worker.seed == seed for worker in self._workers)
            for _ in range(min(self.size, tasks) - known):
                self._workers.append(self._start_worker(seed))

    def shrink(self, size: int) -> None:
        """End all but a few workers; others start again when needed."""
        for worker in self._workers[size:]:
            self._stop_worker(worker)

    def _run_tasks(
        self,
        tasks: Iterable[Task[Result]],
        *,
        seeds: tuple[int, ...],
        tries: int,
        in_turns: bool = False,
    ) -> Iterator[TaskReply[Result]]:
        source = enumerate(tasks)
        queues: _Queues = {seed: deque() for seed in seeds}
        try:
            while True:
                self._fill_queues(queues, source, in_turns=in_turns)
                self._assign_jobs(queues)
                busy = [worker for worker in self._workers if not worker.is_idle]
                if not busy:
                    return
                for worker, job, result in self._wait_for_answers(busy):
                    is_lost = isinstance(result, TaskFailed) and result.is_lost
                    if job.number is None:
                        self._require_setup(job.task, result)
                    elif is_lost and job.attempt < tries:
                        queues[worker.seed].appendleft(replace(job, attempt=job.attempt + 1))
                    else:
                        yield TaskReply(
                            number=job.number,
                            task=job.task,
                            seed=worker.seed,
                            result=result,  # type: ignore[arg-type] # the handler's result
                        )
        finally:
            # When the caller stops early, answers to abandoned tasks must not meet later ones.
            for worker in [worker for worker in self._workers if worker.job is not None]:
                self._stop_worker(worker)

    def _fill_queues(
        self, queues: _Queues, source: Iterator[tuple[int, Task[Any]]], *, in_turns: bool
    ) -> None:
        """Draw tasks until every worker that is free or may be started has one."""
        every = list(queues.values())
        for seed, queue in queues.items():
            busy = sum(w.job is not None for w in self._workers if w.seed == seed)
            while len(queue) < self.size - busy:
                drawn = next(source, None)
                if drawn is None:
                    return
                number, task = drawn
                for one in [every[number % len(every)]] if in_turns else every:
                    one.append(_Job(number=number, task=task))

    def _assign_jobs(self, queues: _Queues) -> None:
        """Send waiting jobs to idle workers, starting workers where there are too few."""
        for seed, queue in queues.items():
            mine = [worker for worker in self._workers if worker.seed == seed]
            for worker in mine:
                if queue and worker.is_idle:
                    setup = next(iter(worker.setup), None)
                    job = (
                        queue.popleft()
                        if setup is None
                        else _Job(number=None, task=worker.setup.pop(setup))
                    )
                    worker.send(job, limit_seconds=self.limit_seconds)
            soon_free = sum(
                not worker.is_ready or (worker.job is not None and worker.job.number is None)
                for worker in mine
            )
            for _ in range(min(self.size - len(mine), len(queue) - soon_free)):
                self._workers.append(self._start_worker(seed))

    def _wait_for_answers(self, busy: list[_PoolWorker]) -> _Answers:
        """Yield what comes in until the next deadline; stop workers that are past theirs."""
        patience = max(0.0, min(worker.deadline for worker in busy) - time.monotonic())
        readable = wait([worker.connection for worker in busy], timeout=patience)
        for worker in busy:
            if worker.connection in readable:
                yield from self._receive(worker)
            elif time.monotonic() >= worker.deadline:
                yield self._lose_worker(worker, "a worker that gave none in time")

    def _receive(self, worker: _PoolWorker) -> _Answers:
        try:
            message = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            code = worker.process.exit_code(timeout_seconds=5)
            yield self._lose_worker(worker, f"a worker that ended with code {code}")
            return
        if worker.job is not None:
            job, worker.job = worker.job, None
            yield worker, job, message
        elif isinstance(message, WorkerReady):
            worker.is_ready = True
        else:
            assert isinstance(message, TaskFailed)
            root, got = self.launcher.root, message.reason
            self._stop_worker(worker)
            raise ToolError("target", "must be importable", expected=root, got=got)

    def _lose_worker(self, worker: _PoolWorker, got: str) -> tuple[_PoolWorker, _Job, TaskFailed]:
        job, worker.job = worker.job, None
        self._stop_worker(worker)
        if job is None:
            raise ToolError("worker", "must start", expected="a process that answers", got=got)
        return worker, job, TaskFailed(reason=got, is_lost=True)

    def _require_setup(self, task: Task[Any], result: object) -> None:
        if isinstance(result, TaskFailed):
            rule = f"must run {type(task).__name__}"
            raise ToolError("worker", rule, expected="a result", got=result.reason)

    def _stop_worker(self, worker: _PoolWorker) -> None:
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.end()

    def _start_worker(self, seed: int) -> _PoolWorker:
        process, connection = self.launcher.start(seed=seed)
        return _PoolWorker(
            seed=seed,
            process=process,
            connection=connection,
            deadline=time.monotonic() + self.start_limit_seconds,
            setup=dict(self._setup),
        )


def core_count() -> int:
    """Return the number of cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
