"""Who carries the orders of a campaign out: workers on this machine."""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tools.errors import ToolError
from tools.mutation.campaign.tasks import MutationTask
from tools.mutation.campaign.worker_process import MutationWorkerProcess, WorkerLost
from tools.workers.launch import WorkerLauncher

TRIES_MAX = 3


class Executor(Protocol):
    """Carries orders out, in any order and anywhere."""

    def load(self, baseline: Path) -> None:
        """Let every worker compare with a baseline from now on."""

    def results(self, tasks: Sequence[MutationTask]) -> Iterator[tuple[int, Any]]:
        """Yield the number of an order and its result, as they come.

        Raises:
            ToolError: the target cannot be imported, or an order was lost too often.
        """


class LocalExecutor:
    """Worker processes of this machine, each with a thread of ours that feeds it.

    Args:
        launcher: starts a worker.
        size: number of workers.
        limit_seconds: time one order may take.
    """

    def __init__(self, launcher: WorkerLauncher, *, size: int, limit_seconds: float) -> None:
        self.workers = [
            MutationWorkerProcess(launcher=launcher, baseline=None, limit_seconds=limit_seconds)
            for _ in range(size)
        ]

    def load(self, baseline: Path) -> None:
        """Let every worker compare with a baseline from now on."""
        for worker in self.workers:
            worker.load(baseline)

    def results(self, tasks: Sequence[MutationTask]) -> Iterator[tuple[int, Any]]:
        """Yield the number of an order and its result, as they come.

        Raises:
            ToolError: the target cannot be imported, or an order was lost too often.
        """
        feed = _TaskQueue.of(tasks)
        threads = [
            threading.Thread(target=feed.work, args=(worker,), daemon=True)
            for worker in self.workers[: max(1, len(tasks))]
        ]
        for thread in threads:
            thread.start()
        for _ in tasks:
            found = feed.done.get()
            if isinstance(found, Exception):
                feed.stop()
                raise found
            yield found

    def end(self) -> None:
        """Kill the workers."""
        for worker in self.workers:
            worker.end()


@dataclass(slots=True)
class _TaskQueue:
    """Orders waiting, and what came of those that do not."""

    waiting: "queue.SimpleQueue[tuple[int, int, MutationTask]]"
    done: "queue.SimpleQueue[tuple[int, Any] | Exception]"

    @staticmethod
    def of(tasks: Sequence[MutationTask]) -> "_TaskQueue":
        feed = _TaskQueue(waiting=queue.SimpleQueue(), done=queue.SimpleQueue())
        for number, order in enumerate(tasks):
            feed.waiting.put((number, 1, order))
        return feed

    def work(self, worker: MutationWorkerProcess) -> None:
        """Give orders to one worker until none is left; a lost one is tried again."""
        while True:
            try:
                number, attempt, order = self.waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self.done.put((number, worker.run(order)))
            except WorkerLost as error:
                if attempt >= TRIES_MAX:
                    rule = f"must be carried out within {TRIES_MAX} tries"
                    self.done.put(ToolError("order", rule, expected="a result", got=error))
                    return
                self.waiting.put((number, attempt + 1, order))
            except Exception as error:  # noqa: BLE001 - raised where the results are read
                self.done.put(error)
                return

    def stop(self) -> None:
        """Forget the orders that wait."""
        while not self.waiting.empty():
            self.waiting.get_nowait()


@contextmanager
def open_local_executor(
    launcher: WorkerLauncher, *, size: int, limit_seconds: float
) -> Iterator[LocalExecutor]:
    """Yield workers of this machine; they end with the block."""
    executor = LocalExecutor(launcher, size=size, limit_seconds=limit_seconds)
    try:
        yield executor
    finally:
        executor.end()
