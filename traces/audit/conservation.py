"""Row-byte conservation: rows moved times bytes of a row, on both sides, every layer once."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from traces.audit.assembly_calls import Recordings
from traces.audit.origins import host_pool_origin
from traces.schema.model import PoolSide, Recording, TensorRecord, Transfer
from traces.schema.verdict import Cause, Kind

_Plane: TypeAlias = tuple[str, str]
"""Pool and plane."""


def byte_mismatches(recordings: Recordings) -> tuple[Cause, ...]:
    """Return findings about transfers that move other bytes than the rows have, or other layers."""
    return tuple(
        cause
        for name, recording in recordings.items()
        for rule in (_wrong_transfers, _wrong_host_rows, _wrong_layers)
        for cause in rule(name, recording)
    )


def _wrong_transfers(name: str, recording: Recording) -> Iterator[Cause]:
    """Yield transfers whose bytes are not those of the device's rows."""
    device = _buffers_by_plane(recording, "device")
    for event in _transfers(recording):
        widths = {tensor.row_bytes for tensor in device.get((event.device_pool, event.plane), ())}
        if len(widths) != 1 or not event.rows:
            continue
        (row_bytes,) = widths
        want = event.rows * row_bytes
        if event.bytes != want:
            origin = host_pool_origin(recording, event.pool)
            yield origin.finding(
                Kind.ROW_BYTES_MISMATCH,
                name,
                where=f"{origin.builder}: transfers of {event.pool}.{event.plane}",
                values=(want, event.bytes),
                message=f"A {event.direction} of {event.pool}.{event.plane} moves {event.bytes} "
                f"bytes; its slots have {want} on the device, {row_bytes} bytes a row.",
            )


def _wrong_host_rows(name: str, recording: Recording) -> Iterator[Cause]:
    """Yield device rows that the host pool which mirrors them has no rows for.

    Of a pool that moved nothing before its stack failed, one kind of row at least must fit: others
    may be mirrored elsewhere.
    """
    moved: dict[str, set[_Plane]] = {}
    for event in _transfers(recording):
        moved.setdefault(event.pool, set()).add((event.device_pool, event.plane))
    device = _buffers_by_plane(recording, "device")
    for pool in sorted({tensor.pool for tensor in recording.trace.tensors}):
        widths = [tensor.row_bytes for tensor in _host_buffers(recording, pool)]
        own = moved.get(pool) or {plane for plane in device if plane[0] == pool}
        rows = {plane: device[plane][0].row_bytes for plane in own if plane in device}
        unfit = {plane: width for plane, width in rows.items() if width not in widths}
        if not widths or not unfit:
            continue
        if pool not in moved:
            if recording.trace.outcome.ok or len(unfit) < len(rows):
                continue
            nearest = min(sorted(unfit), key=lambda plane: abs(unfit[plane] - widths[0]))
            unfit = {nearest: unfit[nearest]}
        for (owner, plane), width in sorted(unfit.items()):
            origin = host_pool_origin(recording, pool)
            yield origin.finding(
                Kind.ROW_BYTES_MISMATCH,
                name,
                where=f"{origin.builder}: host.{pool}, rows of device.{owner}.{plane}",
                values=(width, widths[0]),
                message=f"A row of device.{owner}.{plane} has {width} bytes; "
                f"host.{pool} has rows of {widths[0]}.",
            )


def _wrong_layers(name: str, recording: Recording) -> Iterator[Cause]:
    """Yield batches of one backup or load in which a layer is missing or comes twice."""
    outcome = recording.trace.outcome
    device = _buffers_by_plane(recording, "device")
    batches: dict[tuple[str, ...], Counter[int]] = {}
    for event in _transfers(recording):
        batch = (event.step, event.direction, event.pool, event.device_pool, event.plane)
        slots = (event.device_slots, event.host_slots)
        batches.setdefault((*batch, *slots), Counter())[event.layer] += 1
    for (step, direction, pool, owner, plane, *_), counts in batches.items():
        want = range(_layer_num(device.get((owner, plane), ())))
        is_cut_short = not outcome.ok and outcome.failed_step == step
        is_even = len(set(counts.values())) == 1 and set(counts) == set(want)
        if is_even or is_cut_short or not want:
            continue
        origin = host_pool_origin(recording, pool)
        yield origin.finding(
            Kind.LAYERS_CHANGED,
            name,
            where=f"{origin.builder}: {direction} {pool}.{plane}",
            message=f"A {direction} of {pool}.{plane} in step {step} must move layers "
            f"0 to {len(want) - 1} once each.",
            values=(list(want), sorted(counts.elements())),
        )


def _transfers(recording: Recording) -> Iterator[Transfer]:
    return (event for event in recording.trace.events if isinstance(event, Transfer))


def _buffers_by_plane(recording: Recording, side: PoolSide) -> dict[_Plane, list[TensorRecord]]:
    """Return the buffers of one side that hold rows, by pool and plane."""
    buffers: dict[_Plane, list[TensorRecord]] = {}
    for tensor in recording.trace.tensors:
        for plane in tensor.planes if tensor.side == side else ():
            buffers.setdefault((tensor.pool, plane), []).append(tensor)
    return buffers


def _host_buffers(recording: Recording, pool: str) -> list[TensorRecord]:
    own = (tensor for tensor in recording.trace.tensors if tensor.pool == pool)
    return [tensor for tensor in own if tensor.side == "host" and tensor.row_bytes]


def _layer_num(buffers: Sequence[TensorRecord]) -> int:
    """Return how many layers a plane has: one buffer holds all of them, or each its own.

    A pool inside another one may list the same buffers again.
    """
    layers = {tensor.layer for tensor in buffers}
    return buffers[0].shape[0] if None in layers else len(layers)
