"""Errors a caller can cause. Every message reads *subject: rule; expected X, got Y*."""


class HiCacheError(Exception):
    """Base of the errors raised by this package on purpose."""

    def __init__(self, subject: str, rule: str, *, expected: object, got: object) -> None:
        super().__init__(f"{subject}: {rule}; expected {expected}, got {got}")
        self.subject = subject
        self.rule = rule
        self.expected = expected
        self.got = got


class AssemblyError(HiCacheError, ValueError):
    """A stack was wired wrongly: row widths, layers, names, missing or surplus pools."""


class PoolError(HiCacheError, ValueError):
    """A pool cannot do this: geometry, layout, double free, a slot that is not its own."""


class TransferError(HiCacheError, ValueError):
    """A transfer names an unknown pool, lacks indices, or asks for an unsupported combination."""


class OutOfHostMemoryError(HiCacheError, ValueError):
    """The host cannot hold the pool; raised before anything is allocated."""


class OutOfDeviceMemoryError(HiCacheError, MemoryError):
    """Device memory cannot hold an allocation; nothing is allocated."""


class RaceError(HiCacheError, RuntimeError):
    """Two accesses to the same bytes, one of them a write, that nothing orders."""


class ReplayError(HiCacheError, RuntimeError):
    """A program asks for other decisions than those that were written down."""


class DeadlockError(HiCacheError, RuntimeError):
    """Something is waited for that can never happen."""


class HostThreadError(HiCacheError, RuntimeError):
    """A host thread calls where it may not, or cannot be started."""
