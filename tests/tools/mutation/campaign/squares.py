"""A worker class for tests of executors; workers import it by name."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    number: int
    marker: Path | None = None
    kills_parent: bool = False


class Squares:
    """Squares numbers; a task with a marker kills the process the first times."""

    def __init__(self, root):
        self._root = root

    @property
    def handlers(self):
        return {Square: self.square}

    def square(self, task):
        if task.marker is not None:
            with task.marker.open("a") as stream:
                stream.write("x")
            if task.marker.stat().st_size <= task.number:
                os.kill(os.getppid() if task.kills_parent else os.getpid(), signal.SIGKILL)
        return task.number**2, os.getpid()
