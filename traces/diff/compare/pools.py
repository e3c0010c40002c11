"""Comparison of what pools answer and do when they are asked directly.

Releases add and remove methods and rename the pools that others hold; a record that one side lacks
is no difference. An error with another text is one of the interface.
"""

from collections.abc import Iterable, Sequence

import msgspec

from traces.diff.values import Value
from traces.schema.model import DigestRecord
from traces.schema.pools import (
    ExportedBuffer,
    PageAccess,
    PoolAccessor,
    PoolAnswer,
    PoolRecord,
    SlotOperation,
)
from traces.schema.verdict import Kind, Level

POOL_RECORDS = (PoolAnswer, PoolAccessor, PageAccess, SlotOperation)
"""The classes of records that this module compares."""

_IDENTIFYING_FIELDS = {"step", "holder", "method", "stream"}
_SHOWN_MAX = 3


def pool_record_key(record: PoolRecord) -> tuple[str, str]:
    """Return what two sides must share to be compared: class of the record, and its subject."""
    return type(record).__name__, pool_record_subject(record)


def pool_record_subject(record: PoolRecord) -> str:
    """Return whose record it is: ``kv_cache.get_contiguous_buf_infos``."""
    method = f"{record.holder}.{record.method}"
    return f"{method} of {record.plane}" if isinstance(record, SlotOperation) else method


def pool_record_kind(before: PoolRecord, after: PoolRecord) -> Kind:
    """Return the kind of the difference of two records of one subject."""
    if bool(before.reason) != bool(after.reason):
        return Kind.OUTCOME_CHANGED
    if isinstance(before, PoolAnswer) and isinstance(after, PoolAnswer):
        if _places(before.buffers) != _places(after.buffers):
            return Kind.LAYERS_CHANGED
        return Kind.BYTES_CHANGED if before.buffers != after.buffers else Kind.DIGEST_CHANGED
    if isinstance(before, PoolAccessor) and isinstance(after, PoolAccessor):
        if (before.planes, before.layers) != (after.planes, after.layers):
            return Kind.LAYERS_CHANGED
        return Kind.ORDER_EDGE_REMOVED if before.waited else Kind.ORDER_EDGE_ADDED
    return Kind.BYTES_CHANGED if isinstance(before, PageAccess) else Kind.DIGEST_CHANGED


def pool_record_level(before: PoolRecord, after: PoolRecord) -> Level:
    """Return the level of a difference: that of an error's text is the interface's."""
    if before.reason and after.reason and _error(before) == _error(after):
        return Level.INTERFACE
    return Level.BEHAVIOUR


def changed_pool_values(record: PoolRecord, other: PoolRecord) -> Value:
    """Return the fields in which a record differs, of long lists the first items that do."""
    mine, theirs = msgspec.to_builtins(record), msgspec.to_builtins(other)
    return {
        name: _changed_items(value, theirs.get(name))
        for name, value in mine.items()
        if name not in _IDENTIFYING_FIELDS and value != theirs.get(name)
    }


def unshared_pool_records(
    base: Iterable[DigestRecord], head: Iterable[DigestRecord]
) -> frozenset[tuple[str, str]]:
    """Return the keys of the records that only one of two traces has."""
    old, new = (
        {pool_record_key(one) for one in side if isinstance(one, POOL_RECORDS)}
        for side in (base, head)
    )
    return frozenset(old ^ new)


def _places(buffers: Sequence[ExportedBuffer]) -> list[tuple[str, str, int | None, int]]:
    return [(one.pool, one.plane, one.layer, one.offset) for one in buffers]


def _error(record: PoolRecord) -> str:
    return record.reason.partition(":")[0]


def _changed_items(value: Value, other: Value) -> Value:
    if not (isinstance(value, list) and isinstance(other, list) and len(value) == len(other)):
        return value
    changed = [one for one, its in zip(value, other, strict=True) if one != its]
    return changed[:_SHOWN_MAX]
