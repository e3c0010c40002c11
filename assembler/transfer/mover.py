"""The interface of a transfer backend, and the slots that it is given."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch

from assembler.device.access import MemoryAccess
from assembler.device.base import Device
from assembler.transfer.rows import RowMap
from assembler.transfer.windows import RowWindow


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

    def check(self) -> None:
        """Raise TransferError for slots in host memory that are not whole rows."""
        for indices in (self.host_indices, self.device_indices):
            if indices.is_cpu:
                self.row_map.check(indices)


class RowMover(ABC):
    """A transfer backend: moves rows between two windows and knows where its inputs must lie."""

    @abstractmethod
    def admit(
        self, accelerator: Device, slots: SlotPairs, *, host: RowWindow, label: str
    ) -> tuple[MemoryAccess, ...]:
        """Check where slots and host rows lie; return the launched copy's reads of the slots.

        Raises:
            TransferError: the backend cannot reach them, or slots it reads now are not whole rows.
        """

    @abstractmethod
    def addressed(self, accelerator: Device, window: RowWindow) -> RowWindow:
        """Return ``window`` as the backend addresses it."""

    @abstractmethod
    def check(self, *, subject: str, src: RowWindow, dst: RowWindow) -> None:
        """Raise, before the launch, errors that the backend can find without indices.

        Raises:
            TransferError: kernel: a row that is not a multiple of eight bytes.
            RuntimeError: direct: torch's own message for rows of different shapes.
        """

    @abstractmethod
    def move_rows(
        self, *, src: RowWindow, dst: RowWindow, src_rows: torch.Tensor, dst_rows: torch.Tensor
    ) -> None:
        """Copy row ``src_rows[i]`` of ``src`` to row ``dst_rows[i]`` of ``dst`` for every i.

        Shape: both index tensors ``(row_num,) int64``; rows of ``dst_rows`` are distinct.

        Order: runs on the stream that is current when it is called.
        """

    @abstractmethod
    def access(self, *, window: RowWindow, numbers: Callable[[], torch.Tensor]) -> MemoryAccess:
        """Return the access of :meth:`move_rows` to ``window``, given its row numbers."""
