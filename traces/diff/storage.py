"""Who stores what, and under which keys, is an affair of its own."""

from traces.diff.differences import Difference
from traces.diff.side import Side
from traces.diff.tensors import pool_of
from traces.model import StorageAccess
from traces.verdict import Kind

_MARK = "storage "


def storage_in(found: Difference, *, base: Side, head: Side) -> str:
    """Return what a difference of storage is about; empty where something else may explain it.

    Who opens no storage stores nothing, whose pool is missing or has other bytes does not store it
    as before: that follows from what was assembled.
    """
    if not found.where.startswith(_MARK) or not (_opens(base) and _opens(head)):
        return ""
    if found.kind is Kind.TRANSFER_CHANGED:
        return ""
    if found.pool and not (_has(base, found.pool) and _has(head, found.pool)):
        return ""
    return f"{found.kind} {found.pattern}"


def _opens(side: Side) -> bool:
    return any(
        isinstance(event, StorageAccess) and event.operation == "open"
        for event in side.trace.events
    )


def _has(side: Side, pool: str) -> bool:
    return any(
        tensor.owner.startswith("host.") and pool_of(tensor.owner) == pool
        for tensor in side.trace.tensors
    )
