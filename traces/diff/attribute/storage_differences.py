"""Who stores what, and under which keys, is an affair of its own."""

from traces.diff.compare.tensors import pool_of
from traces.diff.differences import Difference
from traces.diff.index import RecordingIndex
from traces.schema.model import StorageAccess
from traces.schema.verdict import Kind

_STORAGE_PREFIX = "storage "


def storage_subject(found: Difference, *, base: RecordingIndex, head: RecordingIndex) -> str:
    """Return what a difference of storage is about; empty where something else may explain it.

    Who opens no storage stores nothing, whose pool is missing or has other bytes does not store it
    as before: that follows from what was assembled.
    """
    if not found.where.startswith(_STORAGE_PREFIX) or not (
        _opens_storage(base) and _opens_storage(head)
    ):
        return ""
    if found.kind is Kind.TRANSFER_CHANGED:
        return ""
    if found.pool and not (_has_pool(base, found.pool) and _has_pool(head, found.pool)):
        return ""
    return f"{found.kind} {found.pattern}"


def _opens_storage(side: RecordingIndex) -> bool:
    return any(
        isinstance(event, StorageAccess) and event.operation == "open"
        for event in side.trace.events
    )


def _has_pool(side: RecordingIndex, pool: str) -> bool:
    return any(
        tensor.owner.startswith("host.") and pool_of(tensor.owner) == pool
        for tensor in side.trace.tensors
    )
