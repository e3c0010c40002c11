"""Addresses of rows in a host buffer, for pools of token rows.

``L`` layers, ``N`` pages of ``P`` slots, ``S = N * P`` slots, ``row`` the shape of one row:

====================  ======================
layout                buffer
====================  ======================
``layer_first``       ``(L, S, *row)``
``page_first``        ``(S, L, *row)``
``page_first_direct`` ``(N, L, P, *row)``
``page_head``         ``(N, H, P, L, D)`` with ``row = (H, D)``
====================  ======================

``page_first`` is ordered by slot in spite of its name; a page is contiguous because its slots are.

Source: sglang 0.5.12 ``memory_pool_host.py:351-375, 851-911``.
"""

from typing import assert_never

import torch

from assembler.names import HostLayout


def token_buffer_shape(
    *,
    layout: HostLayout,
    layer_num: int,
    page_num: int,
    page_size: int,
    row_shape: tuple[int, ...],
) -> tuple[int, ...]:
    """Return the shape of the buffer of one plane."""
    match layout:
        case HostLayout.LAYER_FIRST:
            return (layer_num, page_num * page_size, *row_shape)
        case HostLayout.PAGE_FIRST:
            return (page_num * page_size, layer_num, *row_shape)
        case HostLayout.PAGE_FIRST_DIRECT:
            return (page_num, layer_num, page_size, *row_shape)
        case HostLayout.PAGE_HEAD:
            # Layers lie inside a slot of a head, so one rank's heads of a page are one block.
            head_num, head_dim = row_shape
            return (page_num, head_num, page_size, layer_num, head_dim)
        case _:
            assert_never(layout)


def layer_rows(*, buffer: torch.Tensor, layout: HostLayout, layer: int) -> torch.Tensor:
    """Return a view of one layer's rows, the row axis first.

    Shape: ``(S, *row)``; for ``page_first_direct`` whole pages, ``(N, P, *row)``; for ``page_head``
    a row for each page, head and slot in the page, ``(N * H * P, D)``.
    """
    match layout:
        case HostLayout.LAYER_FIRST:
            return buffer[layer]
        case HostLayout.PAGE_FIRST | HostLayout.PAGE_FIRST_DIRECT:
            # Rows of a layer lie all layers apart: consecutive slots are no single block of memory,
            # and view() on the result raises.
            return buffer[:, layer]
        case HostLayout.PAGE_HEAD:
            # Still a view: the strides of page, head and slot are one after the other, so flatten
            # need not copy. A copy would be moved instead of the buffer.
            return buffer[:, :, :, layer].flatten(0, 2)
        case _:
            assert_never(layout)


def device_rows(*, buffer: torch.Tensor, layout: HostLayout, page_size: int) -> torch.Tensor:
    """Return a view of a device buffer in the rows that a host layout moves.

    Shape: ``(rows, *row)`` becomes itself, whole pages or single heads, as in :func:`layer_rows`.
    Slots after the last whole page are left out where pages move.
    """
    match layout:
        case HostLayout.LAYER_FIRST | HostLayout.PAGE_FIRST:
            return buffer
        case HostLayout.PAGE_FIRST_DIRECT:
            # Device buffers have a padding page, and not always a whole one: view() must divide.
            page_num = buffer.shape[0] // page_size
            return buffer[: page_num * page_size].view(page_num, page_size, *buffer.shape[1:])
        case HostLayout.PAGE_HEAD:
            # Slot and head are neighbours in a device buffer, so this is a view too.
            return buffer.flatten(0, 1)
        case _:
            assert_never(layout)
