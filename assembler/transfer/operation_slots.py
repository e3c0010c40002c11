"""The slots of one operation, and the rows that they mean, computed once for all layers."""

import ctypes
from dataclasses import dataclass

import numpy as np
import torch

from assembler.device.base import Device
from assembler.errors import TransferError
from assembler.transfer.blocks import Integers, RowRuns, ends_of, row_runs, runs_of
from assembler.transfer.layer_rows import LayerRows
from assembler.transfer.rows import RowMap
from assembler.transfer.slot_pairs import SlotPairs

_SLOT_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowPairs:
    """Runs in which the rows of both sides follow each other; arrays are ``(run_num,) int64``.

    They are in the order of the host's rows.

    Attributes:
        host: first row of each run in the host pool.
        device: likewise in the device pool.
        lengths: rows of each run.
        row_num: rows of all runs.
        ends: smallest and largest row, host and device.
    """

    host: Integers
    device: Integers
    lengths: Integers
    row_num: int
    ends: tuple[tuple[int, int], tuple[int, int]]

    @property
    def mean_length(self) -> float:
        """Rows of a run on the average; 0 where there are none."""
        return self.row_num / max(len(self.lengths), 1)


class OperationSlots:
    """Host and device slots of one operation, paired by position.

    Attributes:
        host_indices: ``(slot_num,) int64``.
        device_indices: ``(slot_num,) int64``.
        is_admitted: whether the backend has found that it can use the slots.
        is_under_way: whether copies of the operation were launched.
        begin: what the backend records before the first copy of the operation; None until then.
        is_staged: whether copies through device memory were launched.
    """

    def __init__(
        self, accelerator: Device, *, host_indices: torch.Tensor, device_indices: torch.Tensor
    ) -> None:
        self.host_indices = host_indices
        self.device_indices = device_indices
        self.begin: torch.cuda.Event | None = None
        self.is_admitted = False
        self.is_under_way = False
        self.is_staged = False
        self._accelerator = accelerator
        self._uploaded: OperationSlots | None = None
        self._on_host: OperationSlots | None = None
        self._is_looked_up = False
        self._known_host: torch.Tensor | None = None
        self._is_host_looked_up = False
        self._may_have: dict[tuple[int, float], bool] = {}
        self._rows: dict[RowMap, tuple[torch.Tensor, torch.Tensor]] = {}
        self._known: dict[RowMap, RowRuns | None] = {}
        self._pairs: dict[tuple[RowMap, bool], RowPairs] = {}

    def pairs(self, rows: LayerRows) -> SlotPairs:
        """Return the slots as those of one plane and layer."""
        return SlotPairs(
            subject=rows.subject,
            row_map=rows.row_map,
            host_indices=self.host_indices,
            device_indices=self.device_indices,
        )

    def on_device(self) -> "OperationSlots":
        """Return the same slots in device memory; ordered before later work on this stream."""
        if self.host_indices.is_cuda:
            return self
        if self._uploaded is None:
            self._uploaded = OperationSlots(
                self._accelerator,
                host_indices=self._accelerator.to_device(self.host_indices),
                device_indices=self._accelerator.to_device(self.device_indices),
            )
        return self._uploaded

    def on_host(self) -> "OperationSlots | None":
        """Return the same slots in host memory where the host knows them without waiting."""
        if not self._is_looked_up:
            self._is_looked_up = True
            known = [
                self._accelerator.known_slots(indices)
                for indices in (self.host_indices, self.device_indices)
            ]
            if known[0] is self.host_indices and known[1] is self.device_indices:
                # Not kept: an object that holds itself lives until the garbage collector runs.
                self._is_looked_up = False
                return self
            if known[0] is not None and known[1] is not None:
                self._on_host = OperationSlots(
                    self._accelerator, host_indices=known[0], device_indices=known[1]
                )
        return self._on_host

    def rows(self, row_map: RowMap) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows of the host slots and of the device slots, ``(row_num,) int64``.

        They lie where the slots lie.

        Raises:
            TransferError: slots in host memory that are not whole rows.
        """
        found = self._rows.get(row_map)
        if found is None:
            for indices in (self.host_indices, self.device_indices):
                if indices.is_cpu:
                    row_map.check(indices)
            found = (
                row_map.host_rows(self.host_indices).contiguous(),
                row_map.device_rows(self.device_indices).contiguous(),
            )
            self._rows[row_map] = found
        return found

    def counted(self, row_map: RowMap) -> tuple[torch.Tensor, torch.Tensor, int]:
        """Return slots of the host and of the device, and how many of them are a row.

        These are rows, and 1, where the map is more than a division.
        """
        if row_map.slots_per_row is None:
            return (*self.rows(row_map), 1)
        host, device = self.host_indices.contiguous(), self.device_indices.contiguous()
        return host, device, row_map.slots_per_row

    def known_host_runs(self, row_map: RowMap) -> RowRuns | None:
        """Return the rows of the host slots where the host knows these without waiting, or None.

        Slots that are not whole rows are not known.
        """
        if row_map not in self._known:
            self._known[row_map] = self._find_host_runs(row_map)
        return self._known[row_map]

    def may_have_runs(self, row_map: RowMap, row_num: float) -> bool:
        """Return whether runs of the host may have so many rows on the average, from a few slots.

        Looking through all of them takes longer than the GPU takes for a megabyte. Rows of heads,
        which are more than a division of slots, lie apart in host memory: they have none.
        """
        slots_per_row = row_map.slots_per_row
        if slots_per_row is None:
            return False
        found = self._may_have.get((slots_per_row, row_num))
        if found is None:
            found = self._look_for_runs(slots_per_row, row_num)
            self._may_have[slots_per_row, row_num] = found
        return found

    def _look_for_runs(self, slots_per_row: int, row_num: float) -> bool:
        slots = self._known_host_slots()
        if slots is None:
            return False
        if row_num <= 1:
            return True
        if slots.numel() < row_num * slots_per_row:
            return False
        # Half of a run is within one with most of these positions; pages have no longer runs.
        window = max(2, int(row_num) // 2 + 1) * slots_per_row
        last = slots.numel() - window
        return any(
            _slot_at(slots, at + window - 1) - _slot_at(slots, at) == window - 1
            for at in (0, last // 2, last)
        )

    def _known_host_slots(self) -> torch.Tensor | None:
        """Return the host slots in host memory where the host knows them, looked up once."""
        if not self._is_host_looked_up:
            self._is_host_looked_up = True
            self._known_host = self._accelerator.known_slots(self.host_indices)
        return self._known_host

    def _find_host_runs(self, row_map: RowMap) -> RowRuns | None:
        slots = self._known_host_slots()
        if slots is None:
            return None
        try:
            row_map.check(slots)
        except TransferError:
            return None
        return runs_of(np.ascontiguousarray(row_map.host_rows(slots).numpy()))

    def known_pairs(self, row_map: RowMap, *, touches: bool) -> RowPairs | None:
        """Return runs of rows where the host knows the slots without waiting, or None.

        Slots that are not whole rows are not known. See :func:`row_runs` for ``touches``.
        """
        known = self.on_host()
        if known is None:
            return None
        try:
            return known.row_pairs(row_map, touches=touches)
        except TransferError:
            return None

    def row_pairs(self, row_map: RowMap, *, touches: bool) -> RowPairs:
        """Return runs of rows of slots in host memory; see :func:`row_runs` for ``touches``.

        Raises:
            TransferError: slots that are not whole rows.
        """
        found = self._pairs.get((row_map, touches))
        if found is None:
            host, device = (rows.numpy() for rows in self.rows(row_map))
            starts, lengths = row_runs(host, device, touches=touches)
            # Copy engines write host memory faster in the order of its addresses.
            first = host[starts]
            order = first.argsort()
            starts, lengths = starts[order], lengths[order]
            found = RowPairs(
                host=first[order],
                device=device[starts],
                lengths=lengths,
                row_num=len(host),
                ends=(ends_of(host), ends_of(device)),
            )
            self._pairs[row_map, touches] = found
        return found


def _slot_at(slots: torch.Tensor, position: int) -> int:
    # A torch or numpy call would be the longest part of what precedes the first launch.
    address = slots.data_ptr() + _SLOT_BYTES * slots.stride(0) * position
    return ctypes.c_int64.from_address(address).value
