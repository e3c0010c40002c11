"""The buffers of pools: shape, type, memory and who shares it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from traces.recording.encode import dtype_name
from traces.recording.object_ids import ObjectRef, OwnerNames, object_ref
from traces.recording.probes import PoolView, RowLookup, Target
from traces.schema.model import PoolSide, TensorRecord

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class _PendingBuffer:
    """One buffer; owner names are not known before the recording ends.

    Attributes:
        holder: label of the pool.
        address: of its storage; valid while the pool is alive.
        find_rows: returns the rows at an address, as far as they are known at the end.
        shares_with: the first buffer recorded in the same storage.
    """

    holder: str
    side: PoolSide
    name: str
    shape: tuple[int, ...]
    dtype: str
    stride: tuple[int, ...]
    layout: str
    bytes: int
    pinned: bool
    address: int
    find_rows: RowLookup
    shares_with: "_PendingBuffer | None"


class BufferRecorder:
    """Reads the buffers of each pool once, when it is complete."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._seen: set[str] = set()
        self._buffers: list[_PendingBuffer] = []
        self._storages: dict[int, tuple[ObjectRef, _PendingBuffer]] = {}

    def snapshot(self, pool: object, label: str) -> None:
        """Read the buffers of ``pool``, in the view's order; nothing if it is no pool."""
        view = self._target.view(pool)
        if view is None or label in self._seen:
            return
        self._seen.add(label)
        tensors = list((view.tensors or _public_tensors)(pool))
        find_rows = view.rows(pool) if view.rows is not None and tensors else _no_rows
        for name, tensor in tensors:
            self._add(pool, label, view, find_rows, name, tensor)

    def records(self, owners: OwnerNames) -> tuple[TensorRecord, ...]:
        """Return all buffers in the order they were read."""
        return tuple(_record(buffer, owners) for buffer in self._buffers)

    def _add(
        self,
        pool: object,
        label: str,
        view: PoolView,
        find_rows: RowLookup,
        name: str,
        tensor: "torch.Tensor",
    ) -> None:
        address = tensor.untyped_storage().data_ptr()
        # An address names a storage only while the pool that held it first is alive.
        holder, first = self._storages.get(address, (None, None))
        if holder is None or holder() is None:
            first = None
        buffer = _PendingBuffer(
            holder=label,
            side=view.side,
            name=name,
            shape=tuple(tensor.shape),
            dtype=dtype_name(tensor.dtype),
            stride=tuple(tensor.stride()),
            layout=view.layout,
            bytes=tensor.nbytes,
            pinned=view.is_pinned(tensor),
            address=tensor.data_ptr(),
            find_rows=find_rows,
            shares_with=first,
        )
        self._buffers.append(buffer)
        if first is None and address != 0:
            self._storages[address] = (object_ref(pool), buffer)


def _no_rows(address: int) -> None:
    del address


def _public_tensors(pool: object) -> Iterator[tuple[str, "torch.Tensor"]]:
    for name, value in vars(pool).items():
        if not name.startswith("_"):
            yield from _tensors_within(name, value)


def _tensors_within(name: str, value: object) -> Iterator[tuple[str, "torch.Tensor"]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _tensors_within(f"{name}[{number}]", item)


def _record(buffer: _PendingBuffer, owners: OwnerNames) -> TensorRecord:
    first = buffer.shares_with
    aliases = f"{owners.resolve(first.holder, side=first.side)}.{first.name}" if first else ""
    owner = owners.resolve(buffer.holder, side=buffer.side)
    rows = buffer.find_rows(buffer.address)
    return TensorRecord(
        owner=owner,
        side=buffer.side,
        pool=(rows.pool if rows else "") or owners.pool(buffer.holder, side=buffer.side),
        object=buffer.holder,
        name=buffer.name,
        planes=rows.planes if rows else (),
        layer=rows.layer if rows else None,
        row_bytes=rows.row_bytes if rows else 0,
        slots_per_row=rows.slots_per_row if rows else 0,
        shape=buffer.shape,
        dtype=buffer.dtype,
        stride=buffer.stride,
        layout=buffer.layout,
        bytes=buffer.bytes,
        pinned=buffer.pinned,
        aliases=aliases,
    )
