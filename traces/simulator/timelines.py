"""Timelines of the streams of a device and of the host threads that call it."""

import itertools
import threading

from traces.simulator.vector_clocks import Timeline


class _CallingTimeline(threading.local):
    """The calling host thread's timeline; None until it calls the device."""

    timeline: Timeline | None = None


class TimelineRegistry:
    """The numbered timelines of a device, and that of the calling thread."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._thread = _CallingTimeline()
        self._host_num = 0

    @property
    def is_one_thread(self) -> bool:
        """Whether all calls so far came from one host thread."""
        return self._host_num <= 1

    def stream(self, name: str) -> Timeline:
        """Return a new timeline for a stream."""
        return Timeline(number=next(self._numbers), kind="stream", name=name)

    def host(self) -> Timeline:
        """Return the calling thread's timeline; a new one is ordered after no other."""
        if self._thread.timeline is None:
            name = "the host" if self._host_num == 0 else f"host thread {self._host_num}"
            self._thread.timeline = self.new_host(name)
        return self._thread.timeline

    def new_host(self, name: str) -> Timeline:
        """Return a new timeline for a host thread that is about to start."""
        self._host_num += 1
        return Timeline(number=next(self._numbers), kind="host", name=name)

    def bind_calling_thread(self, timeline: Timeline) -> None:
        """Set the calling thread's timeline."""
        self._thread.timeline = timeline
