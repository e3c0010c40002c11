"""Pause of the interception of tensor operations."""

import threading


class InterceptionPause(threading.local):
    """Reentrant context manager; tensor operations inside of it are not intercepted.

    ``depth`` counts the open blocks of each thread.
    """

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1
