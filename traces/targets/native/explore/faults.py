"""Injected failures at every place where a native stack allocates or copies."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from assembler.errors import OutOfDeviceMemoryError
from assembler.host_pools.base import HostKVCache
from traces.explore.steps import FaultSite
from traces.simulator import SimDevice

AnyCall: TypeAlias = Callable[..., Any]

# Threads ask storage whenever the schedule lets them.
_OF_STORAGE: tuple[FaultSite, ...] = ("storage", "storage thread")


class InjectedFaultError(Exception):
    """The failure of a copy, raised by the injector."""


class FaultInjector:
    """At most one armed failure, which occurs only where it is allowed; storage may always fail.

    Attributes:
        fired: whether something failed since the last :meth:`allow` began, storage left out.
        has_killed: whether a storage thread was ended, and nobody took note of it yet.
    """

    def __init__(self) -> None:
        self.fired = False
        self.has_killed = False
        self._site: FaultSite | None = None
        self._after = 0
        self._times = 0
        self._allowed: tuple[FaultSite, ...] = ()

    def arm(self, site: FaultSite, *, after: int, times: int) -> None:
        """Make ``site`` fail ``times`` times, after it worked ``after`` more times."""
        self._site, self._after, self._times = site, after, times

    def disarm(self) -> None:
        """Cancel the armed failure."""
        self._site = None

    @contextmanager
    def allow(self, *sites: FaultSite) -> Iterator[None]:
        """Allow armed failures at ``sites`` for the duration of the block."""
        self.fired = False
        self._allowed = sites
        try:
            yield
        finally:
            self._allowed = ()

    @contextmanager
    def injected_only(self) -> Iterator[None]:
        """Swallow the errors of a failure that was injected, and no others."""
        try:
            yield
        except (InjectedFaultError, OutOfDeviceMemoryError):
            if not self.fired:
                raise

    def should_fail(self, site: FaultSite) -> bool:
        """Return whether ``site`` fails this time."""
        is_of_storage = site in _OF_STORAGE
        if site != self._site or not (is_of_storage or site in self._allowed):
            return False
        if self._after > 0:
            self._after -= 1
            return False
        self._times -= 1
        if self._times == 0:
            self.disarm()
        self.fired = self.fired or not is_of_storage
        self.has_killed = self.has_killed or site == "storage thread"
        return True

    def guard_allocator(self, allocator: object, *, site: FaultSite) -> None:
        """Make ``allocator.alloc`` return None when ``site`` fails.

        Call it before a builder stores the bound method.
        """

        def wrap(alloc: AnyCall) -> AnyCall:
            return lambda need: None if self.should_fail(site) else alloc(need)

        _replace_method(allocator, "alloc", wrap)

    def guard_copies(self, host_pool: HostKVCache) -> None:
        """Make the copies of a pool fail, before or after they are launched."""

        def wrap(copy: AnyCall) -> AnyCall:
            def guarded(**arguments: object) -> object:
                self._fail_if("copy", InjectedFaultError("injected before a copy"))
                result = copy(**arguments)
                self._fail_if("copy", InjectedFaultError("injected after a copy"))
                return result

            return guarded

        for name in ("backup_from_device_all_layer", "load_to_device_per_layer"):
            _replace_method(host_pool, name, wrap)

    def guard_memory(self, device: SimDevice) -> None:
        """Make the allocations of index tensors fail."""

        def wrap(allocate: AnyCall) -> AnyCall:
            def guarded(*arguments: object, **keywords: object) -> object:
                rule = "must have memory; this failure is injected"
                error = OutOfDeviceMemoryError("index tensor", rule, expected="memory", got="none")
                self._fail_if("indices", error)
                return allocate(*arguments, **keywords)

            return guarded

        _replace_method(device.memory, "allocate", wrap)

    def _fail_if(self, site: FaultSite, error: Exception) -> None:
        if self.should_fail(site):
            raise error


def _replace_method(owner: object, name: str, wrap: Callable[[AnyCall], AnyCall]) -> None:
    """Replace a method of one object; the device still names the lines that launch work."""
    setattr(owner, name, wrap(getattr(owner, name)))
