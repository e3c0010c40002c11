"""A block in which tensor operations are the device's own, and not to be looked at."""

import threading


class InterceptionPause(threading.local):
    """Counts, for each thread, how deep it is inside such blocks."""

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1
