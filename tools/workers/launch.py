"""Launcher of worker processes: any interpreter, the script ``entry.py``, and a connection."""

import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

ENTRY = Path(__file__).with_name("entry.py").resolve()
# Python reads these when it starts; the user's would put other modules on ``sys.path``.
_REMOVED_VARIABLES = frozenset({"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"})
_ISOLATED_VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "PYTHONNOUSERSITE": "1",
    # Warnings of a release while it is imported are no findings.
    "PYTHONWARNINGS": "ignore",
}
# For glibc: memory that a scenario frees is used again instead of given back, which would have the
# system clear every page anew.
_MEMORY_VARIABLES = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 33),
}


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A worker process, which leads a process group of its own."""

    process: subprocess.Popen[bytes]

    def exit_code(self, *, timeout_seconds: float) -> int | None:
        """Return the exit code of the process; None when it still runs after that time."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=timeout_seconds)
        return self.process.returncode

    def end(self) -> None:
        """Kill the process and its children, unless they have ended."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLauncher:
    """A launcher of workers with one tree and its layers first on ``sys.path``.

    Attributes:
        worker_class: ``module:class`` of the worker object.
        root: first on their ``sys.path``, and argument of the worker class.
        python: their interpreter.
        layers: on ``sys.path`` after the root.
        is_isolated: whether they are offline and have only their interpreter's own packages
            otherwise; workers that are not isolated have the ``sys.path`` of this process.
        compiled: directory that keeps compiled modules; None: Python keeps them as usual.
    """

    worker_class: str
    root: Path
    python: Path = Path(sys.executable)
    layers: tuple[Path, ...] = ()
    is_isolated: bool = False
    compiled: Path | None = None

    def start(self, *, seed: int) -> tuple[WorkerProcess, Connection]:
        """Start a worker under a hash seed; return it and our end of the connection to it."""
        ours, theirs = multiprocessing.Pipe()
        with theirs:
            compiled = "" if self.compiled is None else str(self.compiled)
            arguments = [self.worker_class, compiled, *map(str, (self.root, *self.layers))]
            # -P: a directory called tools/ beside the script or the user must not come first.
            process = subprocess.Popen(
                [self.python, "-P", ENTRY, str(theirs.fileno()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=[theirs.fileno()],
                process_group=0,
                env=self._environment(seed),
            )
        return WorkerProcess(process), ours

    def _environment(self, seed: int) -> dict[str, str]:
        kept = {key: text for key, text in os.environ.items() if key not in _REMOVED_VARIABLES}
        if self.is_isolated:
            kept |= _ISOLATED_VARIABLES
        else:
            # An empty entry of sys.path is the current directory.
            kept["PYTHONPATH"] = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
        return {**_MEMORY_VARIABLES, **kept, "PYTHONHASHSEED": str(seed), "OMP_NUM_THREADS": "1"}
