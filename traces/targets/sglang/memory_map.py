"""Map from addresses to pools, buffers and layers."""

from bisect import bisect_right
from dataclasses import dataclass

import torch

from traces.targets.common.pool_buffers import PoolBuffer, buffers_of, span_bytes
from traces.targets.sglang.shims.kernel_moves import CopiedRows

# Layouts of host pools in which a slot's rows of all layers lie together.
_SLOTS_FIRST = "page_first"


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferLocation:
    """Plane and layer of a buffer."""

    buffer: PoolBuffer
    plane: str
    layer: int


class MemoryMap:
    """The buffers of all pools that were learned, by address."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._buffers: list[PoolBuffer] = []
        self._known: dict[int, object] = {}

    def learn(self, pool: object, *, apart: tuple[type, ...] = ()) -> None:
        """Add the buffers of a pool; known memory stays. For ``apart`` see :func:`buffers_of`."""
        if id(pool) in self._known:
            return
        self._known[id(pool)] = pool
        for buffer in buffers_of(pool, apart=apart):
            start = buffer.tensor.data_ptr()
            # A pool may keep views of another one's buffers, such as one layer of all.
            if self.find(start) is not None:
                continue
            place = bisect_right(self._starts, start)
            self._starts.insert(place, start)
            self._buffers.insert(place, buffer)

    def find(self, address: int) -> PoolBuffer | None:
        """Return the buffer an address lies in."""
        place = bisect_right(self._starts, address) - 1
        if place < 0:
            return None
        buffer = self._buffers[place]
        end = self._starts[place] + span_bytes(buffer.tensor)
        return buffer if address < end else None

    def place(self, address: int, *, row_stride: int) -> BufferLocation | None:
        """Return plane and layer of rows, from the address of row 0.

        The stride, in bytes, distinguishes a buffer of one layer from one whose first axis is the
        layer.
        """
        buffer = self.find(address)
        if buffer is None:
            return None
        if is_stacked(buffer.tensor, row_stride=row_stride):
            layer = (address - buffer.tensor.data_ptr()) // _stride_bytes(buffer.tensor, 0)
            number = buffer.number
            plane = buffer.attribute if number is None else f"{buffer.attribute}_{number}"
            return BufferLocation(buffer=buffer, plane=plane, layer=layer)
        return BufferLocation(buffer=buffer, plane=buffer.attribute, layer=buffer.number or 0)

    def numbered(self, copied: CopiedRows, *, row_bytes: int) -> CopiedRows:
        """Return rows that are counted from the first copied one with the numbers of their buffer.

        They stay as they are where they are no rows of a buffer, or several in one piece.
        """
        buffer = self.find(copied.address)
        if buffer is None:
            return copied
        tensor, offset = buffer.tensor, copied.address - buffer.tensor.data_ptr()
        outer = _stride_bytes(tensor, 0)
        inner = _stride_bytes(tensor, 1) if tensor.dim() > 2 else outer
        is_single = copied.rows.numel() == 1
        has_slots_first = is_single and _SLOTS_FIRST in getattr(buffer.pool, "layout", "")
        if has_slots_first or copied.stride % outer == 0:
            unit, first = outer, offset // outer
        elif copied.stride % inner == 0:
            unit, first = inner, offset % outer // inner
        else:
            return copied
        if row_bytes > unit:
            return copied
        step = 0 if is_single else copied.stride // unit
        return CopiedRows(
            address=copied.address - first * unit, stride=unit, rows=copied.rows * step + first
        )


def is_stacked(tensor: torch.Tensor, *, row_stride: int) -> bool:
    """Return whether rows of this stride lie on the second axis, the first being the layer."""
    return (
        tensor.dim() > 2
        and row_stride == _stride_bytes(tensor, 1)
        and row_stride != _stride_bytes(tensor, 0)
    )


def _stride_bytes(tensor: torch.Tensor, axis: int) -> int:
    return tensor.stride(axis) * tensor.element_size()
