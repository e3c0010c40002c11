"""Row-byte conservation: rows moved times bytes of a row, on both sides, every layer once."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import prod
from typing import TypeAlias

from traces.audit.assembly_calls import Recordings
from traces.audit.finding import make_finding
from traces.audit.origins import object_origin
from traces.audit.plane_names import PACKED_DRAFT, bracket_numbers, names_rows_of, plane_name
from traces.schema.model import Recording, TensorRecord, Transfer
from traces.schema.slot_ranges import parse_slot_ranges
from traces.schema.verdict import Cause, Kind

# Rows of this layout lie head by head: no row is one piece of memory.
_SPLIT_LAYOUT = "page_head"
_PAGED_LAYOUT = "page_first_direct"

_Batch: TypeAlias = tuple[str, str, str, str, str, str]


def byte_mismatches(recordings: Recordings) -> tuple[Cause, ...]:
    """Return findings about transfers that move other bytes than the rows have, or other layers."""
    return tuple(
        cause
        for name, recording in recordings.items()
        for cause in (
            *_wrong_transfers(name, recording),
            *_wrong_host_rows(name, recording),
            *_wrong_layers(name, recording),
        )
    )


def count_slots(slots: str) -> int:
    """Return how many slots some runs of slots have."""
    return sum(last - first + 1 for first, last in parse_slot_ranges(slots))


def _wrong_transfers(name: str, recording: Recording) -> Iterator[Cause]:
    """Yield transfers whose bytes are not those of the device's rows."""
    config = recording.trace.scenario.config
    page_size = int(config.get("page_size", 1))
    for event in recording.trace.events:
        if not isinstance(event, Transfer) or not event.device_slots:
            continue
        row = _device_row(recording, event)
        if row is None:
            continue
        row_bytes, row_num = row
        rows = count_slots(event.device_slots) * row_bytes
        last_slot = max(last for _, last in parse_slot_ranges(event.device_slots))
        right = [rows]
        if last_slot >= row_num:
            # Some say which tokens they move where a row holds a page of them.
            right.append(rows // page_size)
        if config.get("layout") == _PAGED_LAYOUT:
            # Where the host keeps pages in one piece, slots may be numbers of pages, of any size
            # with which they fit the buffer.
            page_rows = event.bytes // rows
            fits = page_rows * (last_slot + 1) <= row_num
            right += [rows * page_size, *([rows * page_rows] if fits else [])]
        if event.bytes not in right:
            want = min(right, key=lambda size: abs(size - event.bytes))
            yield _mismatch(
                name,
                recording,
                event.pool,
                what=f"transfers of {event.pool}.{plane_name(event.plane)}",
                before=want,
                after=event.bytes,
                message=f"A {event.direction} of {event.pool}.{event.plane} moves {event.bytes} "
                f"bytes; its slots have {want} on the device, {row_bytes} bytes a row.",
            )


def _wrong_host_rows(name: str, recording: Recording) -> Iterator[Cause]:
    """Yield device rows that the host pool of the same name has no rows for."""
    if recording.trace.scenario.config.get("layout") == _SPLIT_LAYOUT:
        return
    moved = {
        (event.pool, plane_name(event.plane))
        for event in recording.trace.events
        if isinstance(event, Transfer)
    }
    for pool in sorted({tensor.owner for tensor in recording.trace.tensors}):
        owner = pool.removeprefix("host.")
        hosts = _host_buffers(recording, owner) if pool.startswith("host.") else []
        planes = {plane_name(tensor.name) for tensor in hosts}
        for plane, row_bytes in sorted(_flat_rows(recording, owner).items()):
            is_mirrored = (owner, plane) in moved or plane in planes or "kv" in planes
            is_own = (owner, plane) in moved or plane in ("k", "v", "kv")
            if not hosts or not is_mirrored or not is_own:
                continue
            if not any(row_bytes in _row_sizes(tensor) for tensor in hosts):
                host = _nearest_row(hosts)
                yield _mismatch(
                    name,
                    recording,
                    owner,
                    what=f"host.{owner}, rows of device.{owner}.{plane}",
                    before=row_bytes,
                    after=host,
                    message=f"A row of device.{owner}.{plane} has {row_bytes} bytes; "
                    f"host.{owner} has rows of {host}.",
                )


def _wrong_layers(name: str, recording: Recording) -> Iterator[Cause]:
    """Yield batches of one backup or load in which a layer is missing or comes twice."""
    trace = recording.trace
    if trace.scenario.config.get("draft") == PACKED_DRAFT:
        # Its rows lie in the target's host pools and go by the target's name.
        return
    batches: dict[_Batch, Counter[int]] = {}
    layers: dict[tuple[str, str], set[int]] = {}
    for event in trace.events:
        if not isinstance(event, Transfer):
            continue
        batch = (
            *(event.step, event.direction, event.pool, event.plane),
            *(event.device_slots, event.host_slots),
        )
        batches.setdefault(batch, Counter())[event.layer] += 1
        layers.setdefault((event.pool, event.plane), set()).add(event.layer)
    for (step, direction, pool, plane, *_), counts in batches.items():
        want = range(max(layers[pool, plane]) + 1)
        is_cut_short = not trace.outcome.ok and trace.outcome.failed_step == step
        is_even = len(set(counts.values())) == 1 and set(counts) == set(want)
        if is_even or is_cut_short or _device_layer_num(recording, pool, plane) != len(want):
            continue
        origin = object_origin(recording, _host_object(recording, pool))
        yield make_finding(
            Kind.LAYERS_CHANGED,
            where=f"{origin.builder}: {direction} {pool}.{plane}",
            message=f"A {direction} of {pool}.{plane} in step {step} must move layers "
            f"0 to {len(want) - 1} once each.",
            builder=origin.builder,
            callee=origin.callee,
            parameter=None,
            before=list(want),
            after=sorted(counts.elements()),
            location=origin.location,
            scenarios=(name,),
            consequences=(),
        )


def _mismatch(
    name: str,
    recording: Recording,
    pool: str,
    *,
    what: str,
    before: int,
    after: int,
    message: str,
) -> Cause:
    origin = object_origin(recording, _host_object(recording, pool))
    return make_finding(
        Kind.ROW_BYTES_MISMATCH,
        where=f"{origin.builder}: {what}",
        message=message,
        builder=origin.builder,
        callee=origin.callee,
        parameter=None,
        before=before,
        after=after,
        location=origin.location,
        scenarios=(name,),
        consequences=(),
    )


def _device_row(recording: Recording, event: Transfer) -> tuple[int, int] | None:
    """Return bytes of a row and number of rows of the device buffer that a transfer is about."""
    own = [t for t in recording.trace.tensors if t.owner == f"device.{event.pool}"]
    others = [t for t in recording.trace.tensors if t.owner.startswith("device.")]
    for tensors in (own, others):
        rows = {row for tensor in tensors if (row := _row_of(tensor, event)) is not None}
        if rows:
            return rows.pop() if len(rows) == 1 else None
    return None


def _row_of(tensor: TensorRecord, event: Transfer) -> tuple[int, int] | None:
    if not names_rows_of(event.plane, tensor.name):
        return None
    plane, numbers = plane_name(tensor.name), bracket_numbers(tensor.name)
    is_flat = plane == plane_name(event.plane) and numbers[-1:] == (event.layer,)
    if is_flat and len(tensor.shape) > 1:
        return tensor.bytes // tensor.shape[0], tensor.shape[0]
    names = (plane, *(f"{plane}_{number}" for number in numbers[-1:]))
    stacked = plane_name(event.plane) == names[-1] and len(tensor.shape) > 2
    if stacked and event.layer < tensor.shape[0]:
        return tensor.bytes // (tensor.shape[0] * tensor.shape[1]), tensor.shape[1]
    return None


def _flat_rows(recording: Recording, owner: str) -> dict[str, int]:
    """Return bytes of a row by plane, of the device buffers that are numbered by layer."""
    rows: dict[str, int] = {}
    for tensor in recording.trace.tensors:
        numbers = bracket_numbers(tensor.name)
        is_own = tensor.owner == f"device.{owner}" and "." not in tensor.name
        if is_own and numbers == (0,) and len(tensor.shape) > 1:
            rows[plane_name(tensor.name)] = tensor.bytes // tensor.shape[0]
    return rows


def _device_layer_num(recording: Recording, pool: str, plane: str) -> int | None:
    """Return how many layers a plane has on the device; None where buffers do not say."""
    short = plane_name(plane)
    for tensor in recording.trace.tensors:
        if tensor.owner != f"device.{pool}":
            continue
        if plane_name(tensor.name) == short and bracket_numbers(tensor.name):
            alike = [
                other
                for other in recording.trace.tensors
                if other.owner == tensor.owner and plane_name(other.name) == short
            ]
            return len(alike)
        if plane_name(tensor.name) == short and len(tensor.shape) > 2:
            return tensor.shape[0]
    return None


def _host_buffers(recording: Recording, owner: str) -> list[TensorRecord]:
    return [
        tensor
        for tensor in recording.trace.tensors
        if tensor.owner == f"host.{owner}"
        and not tensor.aliases.startswith("device.")
        and not tensor.name.startswith(("device_", "decl."))
    ]


def _host_object(recording: Recording, pool: str) -> str:
    owners = {f"host.{pool}": tensor.object for tensor in _host_buffers(recording, pool)}
    return owners.get(f"host.{pool}", "")


def _row_sizes(tensor: TensorRecord) -> set[int]:
    """Return the bytes of everything that could be a row: what the last axes hold together."""
    item = tensor.bytes // prod(tensor.shape) if prod(tensor.shape) else 0
    return {prod(tensor.shape[axis:]) * item for axis in range(1, len(tensor.shape))}


def _nearest_row(hosts: Sequence[TensorRecord]) -> int:
    """Return the row of the first host buffer as its last two axes tell it."""
    first = hosts[0]
    item = first.bytes // prod(first.shape)
    return prod(first.shape[-2:]) * item
