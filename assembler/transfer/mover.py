"""The interface of a transfer backend, and the copies that it is given."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from assembler.device.access import MemoryAccess
from assembler.device.base import Device
from assembler.names import Direction
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


def grouped_copies(
    copies: Iterable[RowCopy], key: Callable[[RowCopy], object]
) -> list[tuple[RowCopy, ...]]:
    """Return copies in groups of one key, in order of first appearance.

    Planes of different widths take turns in an operation; each width is one group all the same.
    """
    groups: dict[object, list[RowCopy]] = {}
    for copy in copies:
        groups.setdefault(key(copy), []).append(copy)
    return [tuple(group) for group in groups.values()]


class RowMover(ABC):
    """A transfer backend: moves rows between two windows and knows where its inputs must lie.

    Attributes:
        gathers: whether copies of one operation are handed to :meth:`run` together.
    """

    gathers: ClassVar[bool] = False

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

    def run(self, accelerator: Device, copies: Sequence[RowCopy]) -> None:
        """Do copies, one after the other or together; they write different rows.

        Raises:
            TransferError: slots in host memory that are not whole rows.

        Order: runs on the stream that is current when it is called.
        """
        del accelerator
        for copy in copies:
            # Row numbers are computed here and not at launch: until the stream gets here, earlier
            # work on it may still be writing the slots, and reading them from the host would block.
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
