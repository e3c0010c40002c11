"""Main loop of a worker process: makes the worker object and answers tasks."""

import gc
import os
import signal
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tools.errors import ToolError, one_line
from tools.workers.protocol import Task, TaskFailed, Worker, WorkerReady


def serve(connection: Connection, *, worker_class: str, root: Path) -> None:
    """Answer tasks until the other end closes, by a ``module:class`` made of the root."""
    # The parent decides what an interrupt means; what scenarios print must not reach its stdout.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    module, _, name = worker_class.partition(":")
    # An import makes many objects that stay: collecting garbage would visit them again and again.
    gc.disable()
    try:
        worker: Worker = getattr(import_module(module), name)(root)
    except Exception as error:  # noqa: BLE001 - whatever the target raises is reported
        connection.send(_failure(error))
        return
    gc.enable()
    connection.send(WorkerReady())
    while True:
        try:
            task: Task[Any] = connection.recv()
        except EOFError:
            return
        connection.send(_run_task(worker, task))


def _run_task(worker: Worker, task: Task[Any]) -> object:
    try:
        handler = worker.handlers.get(type(task))
        if handler is None:
            reason = f"{type(worker).__name__} has no handler for {type(task).__name__}"
            return TaskFailed(reason=reason)
        return handler(task)
    except Exception as error:  # noqa: BLE001 - whatever the target raises is reported
        return _failure(error)


def _failure(error: Exception) -> TaskFailed:
    if isinstance(error, ToolError):
        return TaskFailed(reason=str(error))
    return TaskFailed(reason=one_line(f"{type(error).__name__}: {error}"))
