"""Errors that a caller can cause. Every message reads *subject: rule; expected X, got Y*."""


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


class DeadlockError(HiCacheError, RuntimeError):
    """A wait that can never end: no thread and no stream is able to run."""


class HostThreadError(HiCacheError, RuntimeError):
    """A host thread that calls outside its group, or cannot be started."""


class StorageError(HiCacheError, RuntimeError):
    """A storage backend failed; the page counts as missing."""


class StorageTimeoutError(StorageError):
    """A storage backend did not answer in time; the page counts as missing."""


class CollectiveError(HiCacheError, RuntimeError):
    """A rank failed, or did not take part in a collective in time."""
