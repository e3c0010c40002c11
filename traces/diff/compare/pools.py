"""Comparison of what pools answer and do when they are asked directly.

Releases add and remove methods and rename the pools that others hold; a record that one side lacks
is no difference. An error with another text is one of the interface.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from traces.diff.differences import Difference, DiffLayer, with_step
from traces.diff.pairing import CallPairing
from traces.diff.values import Value
from traces.schema.model import DigestRecord
from traces.schema.pools import (
    ExportedBuffer,
    HostCopy,
    PageAccess,
    PoolAccessor,
    PoolAnswer,
    PoolRecord,
    RowWrite,
    SlotOperation,
)
from traces.schema.record import Slots
from traces.schema.verdict import Kind, Level

POOL_RECORDS = (PoolAnswer, PoolAccessor, PageAccess, SlotOperation, HostCopy, RowWrite)
"""The classes of records that this module compares."""

_Key = tuple[str, str]
_IDENTIFYING_FIELDS = {"step", "holder", "method", "stream", "streams"}
_SHOWN_MAX = 3


def pool_differences(pairing: CallPairing) -> Iterator[Difference]:
    """Yield methods of pools that answer or do something else, at the line of the method."""
    old, new = (_keyed(side.trace.digests) for side in (pairing.base, pairing.head))
    for place, key in enumerate(dict.fromkeys([*old, *new])):
        before, after = old.get(key), new.get(key)
        known = after or before
        if before == after or known is None:
            continue
        callee = f"{known.holder}.{known.method}"
        lines = (side.sites.definitions.get(callee) for side in (pairing.head, pairing.base))
        yield Difference(
            kind=_kind(before, after),
            where=with_step(_subject(known), known.step),
            before=_changed_values(before, after),
            after=_changed_values(after, before),
            layer=DiffLayer.DIGESTS,
            position=place,
            level=_level(before, after),
            location=next(filter(None, lines), None),
            truncated=(after is None and pairing.head.failed)
            or (before is None and pairing.base.failed),
        )


def unshared_pool_records(
    base: Iterable[DigestRecord], head: Iterable[DigestRecord]
) -> frozenset[_Key]:
    """Return the keys of the records that only one of two traces has."""
    return frozenset(_keyed(base).keys() ^ _keyed(head).keys())


def pool_record_key(record: DigestRecord) -> _Key | None:
    """Return what two sides must share to be compared; None for a record of another class."""
    return (type(record).__name__, _subject(record)) if isinstance(record, POOL_RECORDS) else None


def _keyed(digests: Iterable[DigestRecord]) -> dict[_Key, PoolRecord]:
    own = (one for one in digests if isinstance(one, POOL_RECORDS))
    return {(type(one).__name__, _subject(one)): one for one in own}


def _subject(record: PoolRecord) -> str:
    """Return whose record it is: ``kv_cache.get_contiguous_buf_infos``."""
    method = f"{record.holder}.{record.method}"
    return f"{method} of {record.subject}" if isinstance(record, SlotOperation) else method


def _kind(before: PoolRecord | None, after: PoolRecord | None) -> Kind:
    if before is None or after is None or bool(before.reason) != bool(after.reason):
        return Kind.OUTCOME_CHANGED
    if isinstance(before, PoolAnswer) and isinstance(after, PoolAnswer):
        if _places(before.buffers) != _places(after.buffers):
            return Kind.LAYERS_CHANGED
        return Kind.BYTES_CHANGED if before.buffers != after.buffers else Kind.DIGEST_CHANGED
    if isinstance(before, PoolAccessor) and isinstance(after, PoolAccessor):
        if (before.planes, before.layers) != (after.planes, after.layers):
            return Kind.LAYERS_CHANGED
        return Kind.ORDER_EDGE_REMOVED if before.waited else Kind.ORDER_EDGE_ADDED
    if isinstance(before, RowWrite) and isinstance(after, RowWrite):
        moved = _written_places(before) != _written_places(after)
        return Kind.LAYERS_CHANGED if moved else Kind.BYTES_CHANGED
    return Kind.BYTES_CHANGED if isinstance(before, PageAccess) else Kind.DIGEST_CHANGED


def _level(before: PoolRecord | None, after: PoolRecord | None) -> Level:
    """Return the level of a difference: interface where both sides failed, or one was not called.

    A setter that takes another name for the same rows is another interface.
    """
    sides = [one for one in (before, after) if one is not None]
    was_not_called = any(isinstance(one, RowWrite) and one.unknown for one in sides)
    fails = [bool(one.reason) for one in sides]
    return Level.INTERFACE if was_not_called or fails == [True, True] else Level.BEHAVIOUR


def _changed_values(record: PoolRecord | None, other: PoolRecord | None) -> Value:
    """Return the fields in which a record differs, of long lists the first items that do."""
    if record is None:
        return None
    mine = msgspec.to_builtins(record)
    theirs = {} if other is None else msgspec.to_builtins(other)
    return {
        name: _changed_items(value, theirs.get(name))
        for name, value in mine.items()
        if name not in _IDENTIFYING_FIELDS and value != theirs.get(name)
    }


def _places(buffers: Sequence[ExportedBuffer]) -> list[tuple[str, str, int | None, int]]:
    return [(one.pool, one.plane, one.layer, one.offset) for one in buffers]


def _written_places(record: RowWrite) -> list[tuple[str, Slots, Slots]]:
    return [(one.plane, one.layers, one.slots) for one in record.rows]


def _changed_items(value: Value, other: Value) -> Value:
    """Return a value, or the first items of a list that differ, each by its fields that do."""
    is_list = isinstance(value, list | tuple) and isinstance(other, list | tuple)
    if not is_list or len(value) != len(other):
        return value
    pairs = [pair for pair in zip(value, other, strict=True) if pair[0] != pair[1]]
    return [_changed_fields(*pair) for pair in pairs[:_SHOWN_MAX]]


def _changed_fields(item: Value, other: Value) -> Value:
    if not (isinstance(item, dict) and isinstance(other, dict)):
        return item
    return {name: value for name, value in item.items() if value != other.get(name)}
