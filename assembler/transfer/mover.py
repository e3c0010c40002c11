"""The interface of a transfer backend, and the copies that it is given."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch

from assembler.device.access import MemoryAccess
from assembler.device.base import Device
from assembler.names import Direction
from assembler.transfer.layer_rows import RowSet
from assembler.transfer.operation_slots import OperationSlots
from assembler.transfer.slot_pairs import SlotPairs
from assembler.transfer.windows import RowWindow


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowCopy:
    """A copy of the rows of some slots, of one plane and layer.

    Attributes:
        direction: which of the windows is read.
        slots: the slots, and which rows they mean.
        host: rows of the host pool, as the backend addresses them.
        device: rows of the device pool, likewise.
    """

    direction: Direction
    slots: SlotPairs
    host: RowWindow
    device: RowWindow

    @property
    def src(self) -> RowWindow:
        """The window that is read."""
        return self.device if self.direction is Direction.BACKUP else self.host

    @property
    def dst(self) -> RowWindow:
        """The window that is written."""
        return self.host if self.direction is Direction.BACKUP else self.device

    def src_rows(self) -> torch.Tensor:
        """Return the rows that are read, ``(row_num,) int64``."""
        backs_up = self.direction is Direction.BACKUP
        return self.slots.device_rows() if backs_up else self.slots.host_rows()

    def dst_rows(self) -> torch.Tensor:
        """Return the rows that are written, ``(row_num,) int64``."""
        backs_up = self.direction is Direction.BACKUP
        return self.slots.host_rows() if backs_up else self.slots.device_rows()


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

    def run(self, copy: RowCopy) -> None:
        """Do a copy.

        Raises:
            TransferError: slots in host memory that are not whole rows.

        Order: runs on the stream that is current when it is called.
        """
        # Row numbers are computed here and not at launch: until the stream gets here, earlier work
        # on it may still be writing the slots, and reading them from the host would block.
        copy.slots.check()
        src_rows, dst_rows = copy.src_rows(), copy.dst_rows()
        self.move_rows(src=copy.src, dst=copy.dst, src_rows=src_rows, dst_rows=dst_rows)

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


class SetMover(ABC):
    """A backend of one kind of device, which moves several planes and layers at once."""

    @abstractmethod
    def copy_set(
        self, accelerator: Device, row_set: RowSet, slots: OperationSlots, direction: Direction
    ) -> None:
        """Copy the rows of slots in all planes and layers of a set.

        Raises:
            TransferError: slots in the wrong memory or that are not whole rows, memory that the
                backend cannot reach, rows outside of their buffer where the host can know it.
            RuntimeError: torch's message, when ``direct`` finds rows of different shapes.

        Order: as if all of it ran on the stream that is current when it is called.
        """
