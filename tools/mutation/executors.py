"""Who carries the orders of a campaign out: workers on this machine."""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tools.errors import ToolError
from tools.launching import Launcher
from tools.mutation.orders import Order
from tools.mutation.workers import Worker, WorkerLost

TRIES_MAX = 3


class Executor(Protocol):
    """Carries orders out, in any order and anywhere."""

    def load(self, baseline: Path) -> None:
        """Let every worker compare with a baseline from now on."""

    def results(self, orders: Sequence[Order]) -> Iterator[tuple[int, Any]]:
        """Yield the number of an order and its result, as they come.

        Raises:
            ToolError: the target cannot be imported, or an order was lost too often.
        """


class Local:
    """Worker processes of this machine, each with a thread of ours that feeds it.

    Args:
        launcher: starts a worker.
        size: number of workers.
        limit_seconds: time one order may take.
    """

    def __init__(self, launcher: Launcher, *, size: int, limit_seconds: float) -> None:
        self.workers = [
            Worker(launcher=launcher, baseline=None, limit_seconds=limit_seconds)
            for _ in range(size)
        ]

    def load(self, baseline: Path) -> None:
        """Let every worker compare with a baseline from now on."""
        for worker in self.workers:
            worker.load(baseline)

    def results(self, orders: Sequence[Order]) -> Iterator[tuple[int, Any]]:
        """Yield the number of an order and its result, as they come.

        Raises:
            ToolError: the target cannot be imported, or an order was lost too often.
        """
        feed = _Feed.of(orders)
        threads = [
            threading.Thread(target=feed.work, args=(worker,), daemon=True)
            for worker in self.workers[: max(1, len(orders))]
        ]
        for thread in threads:
            thread.start()
        for _ in orders:
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
class _Feed:
    """Orders waiting, and what came of those that do not."""

    waiting: "queue.SimpleQueue[tuple[int, int, Order]]"
    done: "queue.SimpleQueue[tuple[int, Any] | Exception]"

    @staticmethod
    def of(orders: Sequence[Order]) -> "_Feed":
        feed = _Feed(waiting=queue.SimpleQueue(), done=queue.SimpleQueue())
        for number, order in enumerate(orders):
            feed.waiting.put((number, 1, order))
        return feed

    def work(self, worker: Worker) -> None:
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
def local(launcher: Launcher, *, size: int, limit_seconds: float) -> Iterator[Local]:
    """Yield workers of this machine; they end with the block."""
    executor = Local(launcher, size=size, limit_seconds=limit_seconds)
    try:
        yield executor
    finally:
        executor.end()
