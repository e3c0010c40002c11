"""Launchers of worker processes: a spawned copy of this process, or another interpreter."""

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from tools.workers import entry
from tools.workers.serve import serve

# Python reads these when it starts; the user's would put other modules on ``sys.path``.
_REMOVED_VARIABLES = frozenset({"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"})
_OFFLINE_VARIABLES = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONNOUSERSITE": "1"}
# What a release warns about while it is imported is no finding of ours.
_WARNING_VARIABLES = {"PYTHONWARNINGS": "ignore"}


class WorkerProcess(Protocol):
    """A worker process, however it was started."""

    def exit_code(self, *, timeout_seconds: float) -> int | None:
        """Return what the process ended with; None when it runs on after that time."""

    def end(self) -> None:
        """Kill the process unless it has ended, and forget it."""


class WorkerLauncher(Protocol):
    """A launcher of workers for one side."""

    @property
    def root(self) -> Path:
        """Directory that holds the side's package."""

    def start(self, *, seed: int) -> tuple[WorkerProcess, Connection]:
        """Start a worker under a hash seed; return it and our end of the connection to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnLauncher:
    """Launcher of workers with the interpreter and ``sys.path`` of this process.

    Attributes:
        worker_class: ``module:class`` of the worker object.
        root: argument of the worker class.
    """

    worker_class: str
    root: Path

    def start(self, *, seed: int) -> tuple[WorkerProcess, Connection]:
        """Start a worker under a hash seed; return it and our end of the connection to it."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=serve,
            args=(theirs,),
            kwargs={"worker_class": self.worker_class, "root": self.root},
            daemon=True,
        )
        # A spawned interpreter reads its hash seed once, when it starts.
        with _environment_set(_seed_variables(seed)):
            process.start()
        theirs.close()
        return _SpawnedProcess(process), ours


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolatedLauncher:
    """Launcher of workers of any interpreter, with one tree and its layers first on ``sys.path``.

    Attributes:
        worker_class: ``module:class`` of the worker object.
        root: first on their ``sys.path``, and argument of the worker class.
        python: the interpreter.
        layers: go on ``sys.path`` after the root.
    """

    worker_class: str
    root: Path
    python: Path
    layers: tuple[Path, ...]

    def start(self, *, seed: int) -> tuple[WorkerProcess, Connection]:
        """Start a worker under a hash seed; return it and our end of the connection to it."""
        ours, theirs = multiprocessing.Pipe()
        kept = {key: text for key, text in os.environ.items() if key not in _REMOVED_VARIABLES}
        with theirs:
            # -P: a directory called tools/ beside the script or the user must not come first.
            process = subprocess.Popen(
                [
                    str(self.python),
                    "-P",
                    str(Path(entry.__file__).resolve()),
                    *entry.command_arguments(
                        descriptor=theirs.fileno(),
                        worker_class=self.worker_class,
                        root=self.root,
                        layers=self.layers,
                    ),
                ],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
                process_group=0,
                env={**kept, **_OFFLINE_VARIABLES, **_WARNING_VARIABLES, **_seed_variables(seed)},
            )
        return _IsolatedProcess(process), ours


@dataclass(frozen=True, slots=True)
class _SpawnedProcess:
    process: BaseProcess

    def exit_code(self, *, timeout_seconds: float) -> int | None:
        self.process.join(timeout=timeout_seconds)
        return self.process.exitcode

    def end(self) -> None:
        self.process.kill()
        self.process.join()


@dataclass(frozen=True, slots=True)
class _IsolatedProcess:
    process: subprocess.Popen[bytes]

    def exit_code(self, *, timeout_seconds: float) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=timeout_seconds)
        return self.process.returncode

    def end(self) -> None:
        # A worker may have children of its own, in the group that its worker leads.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _seed_variables(seed: int) -> dict[str, str]:
    return {"PYTHONHASHSEED": str(seed), "OMP_NUM_THREADS": "1"}


@contextmanager
def _environment_set(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, text in before.items():
            if text is None:
                del os.environ[name]
            else:
                os.environ[name] = text
