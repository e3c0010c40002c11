"""Settings that arrive as text and must mean something."""

from assembler.errors import AssemblyError, TransferError
from assembler.names import IoBackend, WritePolicy


def parse_write_policy(value: str) -> WritePolicy:
    """Return the policy of a name, or raise AssemblyError."""
    if value not in set(WritePolicy):
        known = " or ".join(WritePolicy)
        raise AssemblyError("write policy", "must be known", expected=known, got=repr(value))
    return WritePolicy(value)


def parse_io_backend(value: str) -> IoBackend:
    """Return the io backend of a name, or raise TransferError."""
    if value not in set(IoBackend):
        known = " or ".join(IoBackend)
        raise TransferError("io backend", "must be known", expected=known, got=repr(value))
    return IoBackend(value)
