"""Who takes part: the streams of a device and the host threads that call it."""

import itertools
import threading

from assembler.accelerator.sim.clocks import Party


class _ThreadState(threading.local):
    """A host thread as a party; None until it calls the device."""

    party: Party | None = None


class Parties:
    """Numbers the parties and knows the calling thread."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._thread = _ThreadState()
        self._host_num = 0

    @property
    def is_one_thread(self) -> bool:
        """Whether all calls so far came from one host thread."""
        return self._host_num <= 1

    def stream(self, name: str) -> Party:
        """Return a new party for a stream."""
        return Party(number=next(self._numbers), kind="stream", name=name)

    def host(self) -> Party:
        """Return the calling thread; a new one knows nothing of the others."""
        if self._thread.party is None:
            name = "the host" if self._host_num == 0 else f"host thread {self._host_num}"
            self._thread.party = self.new_host(name)
        return self._thread.party

    def new_host(self, name: str) -> Party:
        """Return a new party for a host thread that is about to start."""
        self._host_num += 1
        return Party(number=next(self._numbers), kind="host", name=name)

    def become(self, party: Party) -> None:
        """Make the calling thread a party."""
        self._thread.party = party
