"""One worker process of a campaign, from the driver's side: takes an order, gives the result."""

import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tools.errors import ToolError
from tools.mutation.campaign.tasks import LoadBaseline, MutationTask
from tools.workers.launch import WorkerLauncher, WorkerProcess
from tools.workers.protocol import TaskFailed, WorkerReady

START_LIMIT_SECONDS = 300.0


class WorkerLost(Exception):  # noqa: N818 - a fact, not a mistake
    """The worker died or hung; its order may be given to another."""


@dataclass(slots=True)
class MutationWorkerProcess:
    """A process that stands ready for orders; it starts with the first.

    Attributes:
        launcher: starts it.
        baseline: read by the process before its first order; None to leave that out.
        limit_seconds: time one order may take.
    """

    launcher: WorkerLauncher
    baseline: Path | None
    limit_seconds: float
    _process: WorkerProcess | None = None
    _connection: Connection | None = field(default=None)

    def run(self, order: MutationTask) -> Any:  # noqa: ANN401
        """Return what comes of an order.

        Raises:
            WorkerLost: the process died or took too long; the next order starts another.
            ToolError: the target cannot be imported, or the order makes no sense.
        """
        if self._connection is None:
            self._start()
        return self._answer(order)

    def load(self, baseline: Path) -> None:
        """Compare with a baseline from now on."""
        self.baseline = baseline
        if self._connection is not None:
            self._answer(LoadBaseline(baseline=baseline))

    def end(self) -> None:
        """Kill the process, if there is one."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.end()
        self._process = self._connection = None

    def _start(self) -> None:
        self._process, self._connection = self.launcher.start(seed=0)
        reply = self._received(START_LIMIT_SECONDS)
        if not isinstance(reply, WorkerReady):
            got = getattr(reply, "reason", reply)
            self.end()
            raise ToolError("target", "must be importable", expected=self.launcher.root, got=got)
        if self.baseline is not None:
            self._answer(LoadBaseline(baseline=self.baseline))

    def _answer(self, order: MutationTask) -> Any:  # noqa: ANN401
        assert self._connection is not None
        try:
            self._connection.send(order)
        except OSError as error:
            self.end()
            raise WorkerLost("died between orders") from error
        reply = self._received(self.limit_seconds)
        if isinstance(reply, TaskFailed):
            what = type(order).__name__.lower()
            raise ToolError(what, "must be carried out", expected="a result", got=reply.reason)
        return reply

    def _received(self, limit_seconds: float) -> Any:  # noqa: ANN401
        assert self._connection is not None
        start = time.monotonic()
        try:
            if self._connection.poll(limit_seconds):
                return self._connection.recv()
        except (EOFError, ConnectionResetError) as error:
            self.end()
            raise WorkerLost("died while it worked") from error
        self.end()
        raise WorkerLost(f"gave nothing in {time.monotonic() - start:.0f} s")
