"""Comparison of what pools tell others about their memory with the memory itself.

Pointers and lengths of device pools are compared with the rows that the pools' slots number, and
the page methods of host pools with the bytes that backups wrote. Memory that no slot numbers is
compared with its end alone. Slices between numbers of ranks must bring every receiving rank its own
items.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from traces.audit.assembly_calls import Recordings
from traces.audit.finding import definition_location
from traces.audit.origins import stack_origin
from traces.schema.model import Recording
from traces.schema.pools import ExportedBuffer, PageAccess, PoolAccessor, PoolAnswer
from traces.schema.verdict import Cause, Kind

_Complaint = tuple[str, object, object]
"""What is wrong, what is expected, and what the pool answers."""


def mismatched_buffers(recordings: Recordings) -> tuple[Cause, ...]:
    """Return findings about pointers, lengths and orders that do not fit the pools' buffers."""
    return tuple(cause for name, one in recordings.items() for cause in _buffers(name, one))


def mismatched_slices(recordings: Recordings) -> tuple[Cause, ...]:
    """Return findings about slices of which a receiving rank gets other items than its own."""
    return tuple(cause for name, one in recordings.items() for cause in _slices(name, one))


def mismatched_pages(recordings: Recordings) -> tuple[Cause, ...]:
    """Return findings about page methods that use other bytes than the backups of the pages."""
    return tuple(cause for name, one in recordings.items() for cause in _pages(name, one))


def _buffers(name: str, recording: Recording) -> Iterator[Cause]:
    digests = recording.trace.digests
    answers = [one for one in digests if isinstance(one, PoolAnswer) and one.buffers]
    accessors = (one for one in digests if isinstance(one, PoolAccessor))
    pairs = {pair for one in accessors for pair in pairwise(one.planes)}
    # A group of host pools tells of one pool after the other, an accessor of those of a layer.
    ordered = {pair for pair in pairs if _pool_of(pair[0]) == _pool_of(pair[1])}
    # What a pool forwards to comes before the pool, and is the one to look at.
    found: dict[str, tuple[PoolAnswer, _Complaint]] = {}
    for answer in answers:
        for complaint in (
            *_wrong_pieces(answer.buffers),
            *_wrong_orders(answer.buffers, ordered),
        ):
            found.setdefault(complaint[0], (answer, complaint))
    for answer, complaint in _missing_layers(answers):
        found.setdefault(complaint[0], (answer, complaint))
    for answer, complaint in found.values():
        yield _finding(Kind.BUFFER_INFO_MISMATCH, name, recording, answer, complaint)


def _wrong_pieces(buffers: Sequence[ExportedBuffer]) -> Iterator[_Complaint]:
    counts = Counter((one.pool, one.plane, one.layer, one.offset) for one in buffers)
    for one in buffers:
        of = _rows(one)
        if not one.plane:
            yield "a pointer must be in a pool's buffer", "a known buffer", "other memory"
        elif one.bytes > one.held_bytes:
            yield f"{of} must end with its buffer", one.held_bytes, one.bytes
        elif one.pool and (one.offset or one.bytes != one.held_bytes):
            size = one.offset + one.held_bytes
            yield f"{of} must be whole", size, {"offset": one.offset, "bytes": one.bytes}
        elif one.page_bytes and one.item_bytes != one.page_bytes:
            yield f"an item of {of} must be a page", one.page_bytes, one.item_bytes
        times = counts[one.pool, one.plane, one.layer, one.offset]
        if times > 1:
            yield f"{of} must be given out once", 1, times


def _wrong_orders(
    buffers: Sequence[ExportedBuffer], ordered: Iterable[tuple[str, str]]
) -> Iterator[_Complaint]:
    """Yield planes in another order than the pool's accessors hand them out, as K before V."""
    places: dict[tuple[str, int | None], int] = {}
    for place, one in enumerate(buffers):
        places.setdefault((f"{one.pool}.{one.plane}", one.layer), place)
    for first, second in sorted(ordered):
        for plane, layer in places:
            if plane == first and places.get((second, layer), place) < places[plane, layer]:
                yield f"{first} must come before {second}", [first, second], [second, first]
                break


def _missing_layers(answers: Sequence[PoolAnswer]) -> Iterator[tuple[PoolAnswer, _Complaint]]:
    """Yield planes of which one holder's methods together do not give out every layer.

    Where another method gives out just the others, as for dense and sparse layers, none is missing.
    """
    layers: dict[tuple[str, str], set[int | None]] = {}
    last: dict[tuple[str, str], tuple[PoolAnswer, int]] = {}
    parts: dict[str, list[list[int | None]]] = {}
    for answer in answers:
        own: dict[str, list[int | None]] = {}
        for one in answer.buffers:
            if one.pool:
                key = (answer.holder, _rows(one))
                layers.setdefault(key, set()).add(one.layer)
                last[key] = (answer, one.layers)
                own.setdefault(_rows(one), []).append(one.layer)
        for rows, part in own.items():
            parts.setdefault(rows, []).append(part)
    for (holder, rows), (answer, num) in last.items():
        expected = list(range(num))
        got = [layer for layer in expected if layer in layers[holder, rows]]
        rest = [layer for layer in expected if layer not in got]
        if rest and rest not in parts[rows]:
            yield answer, (f"every layer of {rows} must be given out", expected, got)


def _slices(name: str, recording: Recording) -> Iterator[Cause]:
    answers = (one for one in recording.trace.digests if isinstance(one, PoolAnswer))
    for answer in answers:
        got = {
            f"{one.sources} to {one.targets} ranks": {
                "ranks": one.ranks,
                "missing": one.missing,
                "wrong": one.wrong,
            }
            for one in answer.slices
            if one.missing or one.wrong
        }
        if got:
            complaint = "every receiving rank must get its own items", "all of them", got
            yield _finding(Kind.BUFFER_INFO_MISMATCH, name, recording, answer, complaint)


def _pool_of(plane: str) -> str:
    return plane.rpartition(".")[0]


def _rows(one: ExportedBuffer) -> str:
    return f"{one.pool}.{one.plane}" if one.pool else one.plane


def _pages(name: str, recording: Recording) -> Iterator[Cause]:
    accesses = [
        one for one in recording.trace.digests if isinstance(one, PageAccess) and not one.reason
    ]
    read = {one.holder: one for one in accesses if one.use == "read"}
    for one in accesses:
        getter = read.get(one.holder)
        complaints: list[_Complaint] = []
        if one.missing_bytes:
            complaints.append(("it must use every byte of a page's backup", 0, one.missing_bytes))
        if one.foreign_bytes:
            complaints.append(("it must use no byte of other pages", 0, one.foreign_bytes))
        if one.shared_bytes:
            complaints.append(("no byte may belong to two pages", 0, one.shared_bytes))
        if one.use == "write" and getter is not None and one.order != getter.order:
            what = f"it must write each byte where {getter.method} reads it"
            complaints.append((what, getter.order, one.order))
        for complaint in complaints:
            yield _finding(Kind.PAGE_MISMATCH, name, recording, one, complaint)


def _finding(
    kind: Kind,
    name: str,
    recording: Recording,
    record: PoolAnswer | PageAccess,
    complaint: _Complaint,
) -> Cause:
    """Return a finding at the line of the method."""
    method = f"{record.holder}.{record.method}"
    what, expected, got = complaint
    line = definition_location(recording, method)
    origin = replace(stack_origin(recording), callee=None, location=line)
    message = f"{method}: {what}; expected {expected}, got {got}."
    where = f"{method}: {what}"
    return origin.finding(kind, name, where=where, message=message, values=(expected, got))
