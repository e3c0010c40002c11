"""The calls of host threads into a simulated device: one at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traces.simulator.thread_scheduler import SimulatedThreadScheduler

# A host that asks again and again must see progress some day, as on a GPU.
POLLS_BEFORE_PROGRESS = 4


class DeviceCallLock:
    """Lets one host thread at a time in: by a lock, or by turns while a block of threads is open.

    Entering may nest. When a block is open, another thread may go first at the outermost entry.

    Attributes:
        turns: of the open block; None without one.
    """

    def __init__(self) -> None:
        self.scheduler: SimulatedThreadScheduler | None = None
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()
        turns = self.scheduler
        if turns is not None:
            # The thread whose turn it is needs no lock, and must not keep one while others go on.
            self._lock.release()
            turns.enter()

    def __exit__(self, *_: object) -> None:
        if self.scheduler is None:
            self._lock.release()
        else:
            self.scheduler.leave()

    @contextmanager
    def without_scheduling(self) -> Iterator[None]:
        """Let the calling thread ask what nobody can notice; nobody goes first."""
        with self._lock:
            yield

    def poll(self) -> None:
        """Say that the calling thread asked in vain."""
        if self.scheduler is not None:
            self.scheduler.poll()
