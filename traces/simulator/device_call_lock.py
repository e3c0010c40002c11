"""Serialises the calls of host threads into a simulated device."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from traces.simulator.queues import StreamQueue


class CallScheduler(Protocol):
    """Decides which host thread may call the device next, while a thread group is open."""

    def enter(self) -> None:
        """Begin a call of the calling thread; other threads may run first."""

    def leave(self) -> None:
        """End a call of the calling thread."""

    def poll(self) -> None:
        """Report that the calling thread queried work that is not done."""

    def wait_for_device(
        self, is_over: Callable[[], bool], *, queue: StreamQueue | None, what: str
    ) -> None:
        """Suspend the calling thread until ``is_over``; other threads run meanwhile."""


class DeviceCallLock:
    """Lets one host thread at a time in: by a lock, or by a scheduler while one is set.

    Entering may nest. With a scheduler, another thread may run first at the outermost entry.

    Attributes:
        scheduler: of the open thread group; None without one.
    """

    def __init__(self) -> None:
        self.scheduler: CallScheduler | None = None
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()
        scheduler = self.scheduler
        if scheduler is not None:
            # The scheduled thread needs no lock, and must not keep one while others run.
            self._lock.release()
            scheduler.enter()

    def __exit__(self, *_: object) -> None:
        if self.scheduler is None:
            self._lock.release()
        else:
            self.scheduler.leave()

    @contextmanager
    def without_scheduling(self) -> Iterator[None]:
        """Run a read-only query under the lock, without a scheduling point."""
        with self._lock:
            yield

    def poll(self) -> None:
        """Report that the calling thread queried work that is not done."""
        if self.scheduler is not None:
            self.scheduler.poll()
