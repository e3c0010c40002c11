"""What every transfer backend can do."""

from collections.abc import Callable
from typing import Protocol

import torch

from assembler.device.access import MemoryAccess
from assembler.transfer.windows import RowWindow


class RowMover(Protocol):
    """Moves rows between two windows: rows, indices and strides in, bytes moved, no policy."""

    def check(self, *, subject: str, src: RowWindow, dst: RowWindow) -> None:
        """Raise, before anything is launched, what the backend can know without indices.

        Raises:
            TransferError: kernel: a row that is not a multiple of eight bytes.
            RuntimeError: direct: torch's own message for rows of different shapes.
        """
        ...

    def move_rows(
        self, *, src: RowWindow, dst: RowWindow, src_rows: torch.Tensor, dst_rows: torch.Tensor
    ) -> None:
        """Copy row ``src_rows[i]`` of ``src`` to row ``dst_rows[i]`` of ``dst`` for every i.

        Shape: both index tensors ``(row_num,) int64``; rows of ``dst_rows`` are distinct.

        Order: runs on the stream that is current when it is called.
        """
        ...

    def access(self, *, window: RowWindow, numbers: Callable[[], torch.Tensor]) -> MemoryAccess:
        """Return what :meth:`move_rows` touches of ``window``, given its row numbers."""
        ...
