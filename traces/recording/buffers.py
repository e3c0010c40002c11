"""The buffers of pools: shape, type, rows, and which of them share memory."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import msgspec

from traces.recording.encode import dtype_name
from traces.recording.object_ids import ObjectRef, OwnerNames, object_ref
from traces.recording.probes import BufferPath, PoolView, RowLookup, Target
from traces.schema.model import TensorRecord

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingBuffer:
    """A buffer whose record lacks what is known only when the recording ends: names and rows.

    Attributes:
        record: its record without these; ``object`` labels the pool.
        address: of its first byte; means this buffer only while the pool is alive.
        find_rows: returns the rows at an address.
        shares_with: the first buffer recorded in the same storage.
    """

    record: TensorRecord
    address: int
    find_rows: RowLookup
    shares_with: "PendingBuffer | None"


class BufferRecorder:
    """Reads the buffers of each pool once, when it is complete."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._read: set[str] = set()
        self._latest: dict[tuple[str, str], TensorRecord] = {}
        self._buffers: list[PendingBuffer] = []
        self._storages: dict[int, tuple[ObjectRef, PendingBuffer]] = {}

    def snapshot(self, pool: object, label: str, *, again: bool = False) -> None:
        """Read the buffers of ``pool``, in the view's order; nothing if it is no pool.

        Args:
            pool: read once, when it is complete.
            label: of the pool.
            again: read a pool that was read before too, for buffers that are new or have another
                shape or type.
        """
        is_read = label in self._read
        view = None if is_read and not again else self._target.view(pool)
        if view is None:
            return
        self._read.add(label)
        tensors = list((view.tensors or _public_tensors)(pool))
        find_rows = view.rows(pool) if view.rows is not None and tensors else _no_rows
        for path, tensor in tensors:
            name = path.text
            storage = tensor.untyped_storage().data_ptr()
            first = self.find(tensor)
            buffer = PendingBuffer(
                record=_unfinished_record(label, view, path, tensor),
                address=tensor.data_ptr(),
                find_rows=find_rows,
                shares_with=first,
            )
            last = self._latest.get((label, name)) if again else None
            if last is None or (last.shape, last.dtype) != (
                buffer.record.shape,
                buffer.record.dtype,
            ):
                self._latest[label, name] = buffer.record
                self._buffers.append(buffer)
            if first is None and storage != 0:
                holder = tensor if view.keeps_tensors else pool
                self._storages[storage] = (object_ref(holder), buffer)

    def find(self, tensor: "torch.Tensor") -> PendingBuffer | None:
        """Return the recorded buffer in whose storage a tensor lies, while its pool is alive.

        The allocator hands freed addresses out again: an address names a storage only while the
        pool or tensor that held it first is alive. Empty tensors all have address 0.
        """
        holder, first = self._storages.get(tensor.untyped_storage().data_ptr(), (None, None))
        return first if holder is not None and holder() is not None else None

    def records(self, owners: OwnerNames) -> tuple[TensorRecord, ...]:
        """Return all buffers in the order they were read."""
        return tuple(_finished_record(buffer, owners) for buffer in self._buffers)


def _no_rows(address: int) -> None:
    del address


def _public_tensors(pool: object) -> Iterator[tuple[BufferPath, "torch.Tensor"]]:
    for name, value in vars(pool).items():
        if not name.startswith("_"):
            yield from tensors_within(BufferPath.of(name), value)


def _unfinished_record(
    label: str, view: PoolView, path: BufferPath, tensor: "torch.Tensor"
) -> TensorRecord:
    return TensorRecord(
        owner="",
        is_named=False,
        side=view.side,
        pool="",
        object=label,
        name=path.text,
        attribute=path.attribute,
        index=path.index,
        planes=(),
        layer=None,
        layer_num=0,
        row_bytes=0,
        slots_per_row=0,
        shape=tuple(tensor.shape),
        dtype=dtype_name(tensor.dtype),
        stride=tuple(tensor.stride()),
        layout=view.layout,
        bytes=tensor.nbytes,
        pinned=view.is_pinned(tensor),
        aliases="",
    )


def _finished_record(buffer: PendingBuffer, owners: OwnerNames) -> TensorRecord:
    record, first = buffer.record, buffer.shares_with
    changes: dict[str, object] = {
        "owner": owners.resolve(record.object, side=record.side),
        "is_named": owners.is_named(record.object),
        "pool": owners.pool(record.object, side=record.side),
    }
    if first is not None:
        owner = owners.resolve(first.record.object, side=first.record.side)
        changes["aliases"] = f"{owner}.{first.record.name}"
    rows = buffer.find_rows(buffer.address)
    if rows is not None:
        known = {field.name: getattr(rows, field.name) for field in fields(rows)}
        changes |= {name: value for name, value in known.items() if name != "pool" or value}
    return msgspec.structs.replace(record, **changes)


def tensors_within(path: BufferPath, value: object) -> Iterator[tuple[BufferPath, "torch.Tensor"]]:
    """Yield the tensors of a value: itself, or items of lists and dicts, with their paths."""
    import torch

    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from tensors_within(path.item(number), item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str | int):
                yield from tensors_within(path.item(key), item)
