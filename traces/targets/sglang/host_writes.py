"""The host bytes that backups wrote, as their kernels addressed them."""

from dataclasses import dataclass

import torch

from traces.targets.sglang.shims.kernel_moves import CopiedRows


@dataclass(frozen=True, slots=True, kw_only=True)
class _WrittenRows:
    address: int
    stride: int
    row_bytes: int
    rows: torch.Tensor


class HostWrites:
    """The rows of every backup, by host pool."""

    def __init__(self) -> None:
        self._rows: dict[int, list[_WrittenRows]] = {}

    def add(self, pool: object, copied: CopiedRows, row_bytes: int) -> None:
        """Keep the rows of one move; the caller may change its index tensor afterwards."""
        rows = copied.rows.detach().clone()
        written = _WrittenRows(
            address=copied.address, stride=copied.stride, row_bytes=row_bytes, rows=rows
        )
        self._rows.setdefault(id(pool), []).append(written)

    def mark(self, pool: object, *, start: int, marks: torch.Tensor) -> None:
        """Set every byte of ``marks`` that a backup into a pool wrote.

        ``marks`` is ``(size,) bool`` for the memory that begins at the address ``start``.
        """
        for written in self._rows.get(id(pool), ()):
            rows = written.rows.cpu().long() * written.stride + (written.address - start)
            for first in rows.tolist():
                marks[max(first, 0) : max(first + written.row_bytes, 0)] = True
