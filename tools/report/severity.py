"""Severity of causes: those that make a verdict ``fail``."""

from traces.schema.verdict import Cause, Kind, Level

FINDING_KINDS = frozenset(
    {
        Kind.STALE_AFTER_RESTORE,
        Kind.SIBLING_DISAGREEMENT,
        Kind.DECLARED_NOT_ASSEMBLED,
        Kind.ROW_BYTES_MISMATCH,
        Kind.PARAMETER_BLIND_SPOT,
        Kind.READ_BEFORE_READY,
        Kind.UNCOVERED_BUILDER,
    }
)


def fails_gate(cause: Cause, *, strict: bool) -> bool:
    """Return whether a cause alone makes the verdict ``fail``.

    Differences of the interface do so only when ``strict``.
    """
    return strict or cause.level is not Level.INTERFACE or cause.kind in FINDING_KINDS
