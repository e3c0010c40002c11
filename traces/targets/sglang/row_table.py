"""The rows of a release's buffers: plane, layer, bytes and slots of each, by address."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Any

import torch

from traces.recording.probes import BufferRows, RowLookup
from traces.targets.common.content import RowBuffer
from traces.targets.common.planes import Plane
from traces.targets.common.pool_buffers import buffers_of
from traces.targets.sglang.memory_map import BufferLocation, MemoryMap

# Rows of this layout lie head by head: no row is one piece of memory.
_SPLIT_LAYOUT = "page_head"
# Buffers of a host pool beside its rows: views of device memory, and copies of arguments.
_NO_ROWS = ("device_", "decl.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedRows:
    """The device rows of one move."""

    pool: str | None  # name of the pool; None where no plane of the stack holds the rows
    plane: str
    layer: int  # index in the pool
    num: int


class RowTable:
    """The rows of all planes of the current stack."""

    def __init__(self, memory: MemoryMap) -> None:
        self._memory = memory
        self._by_address: dict[int, RowBuffer] = {}
        self._device: dict[int, BufferRows] = {}
        self._host_names: dict[int, str] = {}

    def learn(self, planes: Iterable[Plane]) -> None:
        """Register the rows of planes."""
        for plane in planes:
            starts = {self._start(buffer) for buffer in plane.layers}
            for buffer in plane.layers:
                self._by_address[buffer.tensor.data_ptr()] = buffer
                rows = BufferRows(
                    pool=plane.pool,
                    planes=(plane.plane,),
                    layer=buffer.layer if len(starts) == len(plane.layers) else None,
                    layer_num=1 if len(starts) == len(plane.layers) else len(plane.layers),
                    row_bytes=buffer.tensor[0].nbytes,
                    slots_per_row=buffer.slots_per_row,
                )
                self._device.setdefault(self._start(buffer), rows)

    def name_host_pool(self, pool: object, name: str) -> None:
        """Record that a host pool holds rows of the device pool of that name."""
        self._host_names[id(pool)] = name

    def of_device_buffer(self, address: int) -> BufferRows | None:
        """Return the rows of the device buffer at an address; None for an unknown one."""
        return self._device.get(address)

    def of_host_pool(self, pool: Any) -> RowLookup:  # noqa: ANN401 - any class of host pools
        """Return the rows of a host pool's buffers, by the width that their last axes have.

        A buffer has rows of its device pool if some of its last axes hold as many bytes together;
        otherwise its last two axes are a row.
        """
        if getattr(pool, "layout", "") == _SPLIT_LAYOUT:
            return lambda _: None
        sizes = {
            buffer.tensor.data_ptr(): _suffix_bytes(buffer.tensor)
            for buffer in buffers_of(pool)
            if not buffer.name.startswith(_NO_ROWS)
        }

        def find(address: int) -> BufferRows | None:
            name = self._host_names.get(id(pool))
            own = [rows for rows in self._device.values() if rows.pool == name]
            if not own or address not in sizes:
                return None
            alike = [rows for rows in own if rows.row_bytes in sizes[address]]
            return BufferRows(
                pool="",
                planes=tuple(dict.fromkeys(plane for rows in alike for plane in rows.planes)),
                layer=None,
                layer_num=sum(rows.layer_num for rows in alike if rows.planes == alike[0].planes),
                row_bytes=alike[0].row_bytes if alike else sizes[address][:2][-1],
                slots_per_row=alike[0].slots_per_row if alike else 1,
            )

        return find

    def moved(
        self,
        place: BufferLocation,
        *,
        address: int,
        stride: int,
        row_bytes: int,
        rows: torch.Tensor,
    ) -> MovedRows:
        """Return the device rows of a move, whose first row is at ``address`` in ``place``.

        A row of the move, ``row_bytes`` wide and ``stride`` bytes before the next, is a row of the
        buffer, several (a page), or a part of one (a slot where a page is one row).
        """
        known = self._by_address.get(address)
        if known is None:
            return MovedRows(pool=None, plane=place.plane, layer=place.layer, num=len(rows))
        own, num = known.tensor[0].nbytes, len(rows)
        pieces, rest = divmod(own, row_bytes)
        per_row, remainder = divmod(row_bytes, own)
        if not rest and stride == row_bytes and num % pieces == 0:
            num //= pieces
        elif not remainder and (stride == row_bytes or _are_starts(rows, per_row)):
            num *= per_row
        return MovedRows(pool=known.pool, plane=known.plane, layer=known.layer, num=num)

    def _start(self, buffer: RowBuffer) -> int:
        address = buffer.tensor.data_ptr()
        found = self._memory.find(address)
        return address if found is None else found.tensor.data_ptr()


def _suffix_bytes(tensor: torch.Tensor) -> tuple[int, ...]:
    """Return the bytes of the last axis, of the last two, and so on without the first."""
    return tuple(accumulate(reversed(tensor.shape[1:]), mul, initial=tensor.element_size()))[1:]


def _are_starts(rows: torch.Tensor, per_row: int) -> bool:
    """Return whether row numbers begin pieces of ``per_row`` rows; a GPU is not waited for."""
    return rows.is_cuda or not (rows % per_row).any()
