"""The report of copy kernels about rows that lie outside of their buffer."""

import torch

from assembler.errors import TransferError

_LOW = 1 << 32
_ROW_SHIFT = 1 << 31


class RowReport:
    """One word that copy kernels write, and the host reads when it learns that their work is done.

    A kernel cannot raise. It leaves such a row where it is and reports it here; the next event or
    stream that the host finds done raises.

    Args:
        word: ``(1,) int64`` in host memory; 0 for nothing, else the buffer's number of rows times
            2**32 plus 2**31 plus the row, which is cut off at 32 bits with sign.
    """

    def __init__(self, word: torch.Tensor) -> None:
        word.zero_()
        # numpy reads a number in a tenth of the time that torch takes; this is read at every query.
        self._word = word.numpy()

    def check(self) -> None:
        """Raise TransferError once for rows that were reported since the last check."""
        reported = int(self._word[0])
        if reported == 0:
            return
        self._word[0] = 0
        row_num, row = reported // _LOW, reported % _LOW - _ROW_SHIFT
        rule, expected = "rows must lie in the buffer", f"0 to {row_num - 1}"
        raise TransferError("kernel copy", rule, expected=expected, got=row)
