"""Row windows: the rows of one plane and layer, as a tensor and as addresses.

The ``direct`` backend slices the tensor, so torch checks shapes. The ``kernel`` backend works with
offset, stride and row bytes, as the field's copy kernels do, so nothing checks shapes.
"""

import math
from dataclasses import dataclass, field, replace

import torch

from assembler.device.base import Device


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class RowWindow:
    """Addresses of the rows of one plane and layer.

    Attributes:
        tensor: the rows, ``(row_num, *row_shape)``; may be strided along the first axis.
        base: the buffer that holds them, ``(buffer_bytes,) uint8``.
        offset_bytes: first byte of row 0 in ``base``.
        stride_bytes: bytes from one row to the next.
        row_bytes: bytes of a row.
        address: address of row 0.
        row_num: rows that ``tensor`` has and whose addresses, by the stride, lie in ``base``.
    """

    tensor: torch.Tensor
    base: torch.Tensor
    offset_bytes: int
    stride_bytes: int
    row_bytes: int
    address: int = field(init=False)
    row_num: int = field(init=False)

    def __post_init__(self) -> None:
        past_first = self.base.numel() - self.offset_bytes - self.row_bytes
        row_num = min(self.tensor.shape[0], past_first // max(self.stride_bytes, 1) + 1)
        object.__setattr__(self, "address", self.base.data_ptr() + self.offset_bytes)
        object.__setattr__(self, "row_num", row_num)

    @property
    def is_dense(self) -> bool:
        """True when consecutive rows touch, so that a run of rows is one block of memory."""
        return self.stride_bytes == self.row_bytes

    def mapped_by(self, device: Device) -> "RowWindow":
        """Return the window with ``base`` as kernels of ``device`` address it."""
        return replace(self, base=device.mapped(self.base))


def host_window(*, buffer: torch.Tensor, rows: torch.Tensor) -> RowWindow:
    """Describe ``rows``, a view into the contiguous ``buffer``, by its true addresses.

    Shape: ``rows`` is ``(row_num, *row_shape)``, each row contiguous.
    """
    item_bytes = rows.element_size()
    return RowWindow(
        tensor=rows,
        base=_flat_bytes(buffer),
        # data_ptr counts from the storage's start plus the view's own offset, so the difference is
        # right for any view of the buffer, also for one of a part of a larger tensor.
        offset_bytes=rows.data_ptr() - buffer.data_ptr(),
        stride_bytes=rows.stride(0) * item_bytes,
        row_bytes=math.prod(rows.shape[1:]) * item_bytes,
    )


def device_window(*, buffer: torch.Tensor, rows: torch.Tensor, row_bytes: int) -> RowWindow:
    """Describe the rows of a device buffer by the *host's* row width.

    One item size serves both sides of a copy in the field's kernels, and it is the host pool's. A
    host that believes in narrower rows than the device has therefore strides through the device
    buffer wrongly, and nothing notices. The width is taken on trust here for the same reason.

    Shape: ``rows`` is a view of the whole contiguous ``buffer``, ``(row_num, *row_shape)``.

    Source: sglang 0.5.12 ``memory_pool_host.py`` (``token_stride_size``), ``transfer.cu``.
    """
    return RowWindow(
        tensor=rows,
        base=_flat_bytes(buffer),
        offset_bytes=0,
        stride_bytes=row_bytes,
        row_bytes=row_bytes,
    )


def access_bytes(*numbers: int) -> int:
    """Return the widest access, of 16 or 8 bytes, that divides addresses, strides and widths.

    All of them must be multiples of 8, as the ``kernel`` backend requires.
    """
    return 8 if any(number % 16 for number in numbers) else 16


def _flat_bytes(buffer: torch.Tensor) -> torch.Tensor:
    # view, not reshape: reshape would copy a strided buffer, and kernels would fill the copy.
    return buffer.view(-1).view(torch.uint8)
