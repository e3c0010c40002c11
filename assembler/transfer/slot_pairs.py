"""Host and device slots of one transfer, in pairs."""

from dataclasses import dataclass

import torch

from assembler.transfer.rows import RowMap


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotPairs:
    """Host and device slots of one transfer, paired by position.

    Attributes:
        subject: pool, plane and layer, for errors.
        row_map: which rows a slot means.
        host_indices: ``(slot_num,) int64``.
        device_indices: ``(slot_num,) int64``.
    """

    subject: str
    row_map: RowMap
    host_indices: torch.Tensor
    device_indices: torch.Tensor

    def host_rows(self) -> torch.Tensor:
        """Return the rows of the host slots, ``(row_num,) int64``."""
        return self.row_map.host_rows(self.host_indices)

    def device_rows(self) -> torch.Tensor:
        """Return the rows of the device slots, ``(row_num,) int64``."""
        return self.row_map.device_rows(self.device_indices)

    def check(self) -> None:
        """Raise TransferError for slots in host memory that are not whole rows."""
        for indices in (self.host_indices, self.device_indices):
            if indices.is_cpu:
                self.row_map.check(indices)
