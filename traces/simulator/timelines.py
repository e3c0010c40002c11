"""Who takes part: the streams of a device and the host threads that call it."""

import itertools
import threading

from traces.simulator.vector_clocks import Timeline


class _CallingTimeline(threading.local):
    """A host thread as a party; None until it calls the device."""

    timeline: Timeline | None = None


class TimelineRegistry:
    """Numbers the parties and knows the calling thread."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._thread = _CallingTimeline()
        self._host_num = 0

    @property
    def is_one_thread(self) -> bool:
        """Whether all calls so far came from one host thread."""
        return self._host_num <= 1

    def stream(self, name: str) -> Timeline:
        """Return a new party for a stream."""
        return Timeline(number=next(self._numbers), kind="stream", name=name)

    def host(self) -> Timeline:
        """Return the calling thread; a new one knows nothing of the others."""
        if self._thread.timeline is None:
            name = "the host" if self._host_num == 0 else f"host thread {self._host_num}"
            self._thread.timeline = self.new_host(name)
        return self._thread.timeline

    def new_host(self, name: str) -> Timeline:
        """Return a new party for a host thread that is about to start."""
        self._host_num += 1
        return Timeline(number=next(self._numbers), kind="host", name=name)

    def bind_calling_thread(self, timeline: Timeline) -> None:
        """Make the calling thread a party."""
        self._thread.timeline = timeline
