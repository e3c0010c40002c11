"""Failures on demand, at every place where a native stack takes something that may be missing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from typing_extensions import override

from assembler.accelerator import Access
from assembler.accelerator.sim import Schedule, SimDevice
from assembler.errors import OutOfDeviceMemoryError
from assembler.names import Direction
from traces.explore.steps import Site

_TRANSFERS = tuple(f"{direction} " for direction in Direction)


class InjectedFaultError(Exception):
    """A copy that was told to fail."""


class Faults:
    """At most one failure that is waiting to happen, and only while it is allowed to.

    Attributes:
        fired: whether something failed since the last :meth:`allowed` began.
    """

    def __init__(self) -> None:
        self.fired = False
        self._site: Site | None = None
        self._after = 0
        self._times = 0
        self._allowed: tuple[Site, ...] = ()

    def arm(self, site: Site, *, after: int, times: int) -> None:
        """Let ``site`` fail ``times`` times, after it worked ``after`` more times."""
        self._site, self._after, self._times = site, after, times

    def disarm(self) -> None:
        """Let nothing fail."""
        self._site = None

    @contextmanager
    def allowed(self, *sites: Site) -> Iterator[None]:
        """Let armed failures at ``sites`` happen in the block."""
        self.fired = False
        self._allowed = sites
        try:
            yield
        finally:
            self._allowed = ()

    def hits(self, site: Site) -> bool:
        """Return whether ``site`` fails this time."""
        if site != self._site or site not in self._allowed:
            return False
        if self._after > 0:
            self._after -= 1
            return False
        self._times -= 1
        if self._times == 0:
            self.disarm()
        self.fired = True
        return True

    def guard(self, allocator: object, *, site: Site) -> None:
        """Let ``allocator.alloc`` find nothing when ``site`` fails.

        Call it before a builder takes the bound method.
        """
        name = "alloc"
        alloc: Callable[[int], torch.Tensor | None] = getattr(allocator, name)
        setattr(allocator, name, lambda need: None if self.hits(site) else alloc(need))


class FaultyDevice(SimDevice):
    """A simulated device whose copies and index tensors can fail."""

    def __init__(self, *, schedule: Schedule, faults: Faults) -> None:
        super().__init__(schedule=schedule, capacity_bytes=None, raise_races=False)
        self._faults = faults

    @override
    def launch(
        self,
        operation: Callable[[], None],
        *,
        label: str,
        reads: tuple[Access, ...],
        writes: tuple[Access, ...],
    ) -> None:
        if label.startswith(_TRANSFERS) and self._faults.hits("copy"):
            raise InjectedFaultError(label)
        super().launch(operation, label=label, reads=reads, writes=writes)

    @override
    def to_device(self, indices: torch.Tensor) -> torch.Tensor:
        if self._faults.hits("indices"):
            raise OutOfDeviceMemoryError(
                "index tensor", "was told to fail", expected="memory", got="none"
            )
        return super().to_device(indices)
