"""Moves of transfer kernels: the rows of one plane and layer that a call copies.

A shim executes the moves; on a GPU they are reported and the real kernel runs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

RowNumbering = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowAddresses:
    """The rows of one side: row ``r`` begins at ``address + r * stride``."""

    address: int  # of row 0
    stride: int  # bytes from one row to the next
    indices: torch.Tensor  # the caller's index tensor
    # Returns row numbers for ``indices``, whose values may be computed on the device until the
    # kernel runs.
    numbers: RowNumbering
    tensor: torch.Tensor | None  # the tensor of the rows, where the caller passed one
    # With ``direct``, a row is ``tensor[r : r + slots]``, or ``tensor[r]`` when None.
    slots: int | None

    def rows(self) -> torch.Tensor:
        """Return the current row numbers."""
        return self.numbers(self.indices)

    def copied(self) -> "CopiedRows":
        """Return the rows of a copy that is launched now."""
        return CopiedRows(address=self.address, stride=self.stride, rows=self.rows())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KernelMove:
    """Copy of ``source`` rows to ``target`` rows, in order, of one plane and layer of a call."""

    source: RowAddresses
    target: RowAddresses
    row_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CopiedRows:
    """Row numbers of one side of a copy: row ``r`` begins at ``address + r * stride``.

    ``rows`` is the caller's own index tensor wherever a row is one index.
    """

    address: int
    stride: int
    rows: torch.Tensor


def report_copy(
    *,
    kernel: str,
    backend: str,
    source: CopiedRows,
    target: CopiedRows,
    row_bytes: int,
    stream: str,
) -> None:
    """Do nothing: the recorder observes the call as a copy that is about to run.

    Called when the copy is launched, once for each plane and layer of each transfer. The backend is
    ``kernel`` by address, ``direct`` by slices, ``torch`` by tensor operations.
    """
    del kernel, backend, source, target, row_bytes, stream


def report_kernel_move(move: KernelMove, *, kernel: str, backend: str, stream: str) -> None:
    """Call :func:`report_copy` for one move."""
    report_copy(
        kernel=kernel,
        backend=backend,
        source=move.source.copied(),
        target=move.target.copied(),
        row_bytes=move.row_bytes,
        stream=stream,
    )


def identity_rows(indices: torch.Tensor) -> torch.Tensor:
    """Return the indices: every index is a row."""
    return indices


def require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads like an assertion
    """Raise the error of a kernel's own check.

    Raises:
        RuntimeError: the type that TORCH_CHECK raises.
    """
    if not condition:
        raise RuntimeError(message)
