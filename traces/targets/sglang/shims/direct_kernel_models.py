"""Readers of the ``direct`` kernels: slices of tensors, or whole pages by address.

The kernels that copy pages hand all of them to the driver at once, by address: unlike slices, which
torch compares, pages of unequal width are copied as they are, and the width of the first device
layer counts for all. (As kernels 0.4.2.post2 were measured to do on an H100.)
"""

from collections.abc import Sequence

import torch

from traces.targets.sglang.shims.kernel_moves import (
    KernelMove,
    RowAddresses,
    identity_rows,
    require,
    rows_by_address,
    rows_by_slice,
)

Tensor = torch.Tensor


def _check(src_indices: Tensor, dst_indices: Tensor, page_size: int) -> None:
    require(
        src_indices.numel() == dst_indices.numel(),
        "Source and destination indices must have the same length",
    )
    require(page_size > 0, "Page size must be positive")
    require(
        src_indices.numel() % page_size == 0, "Source indices size must be divisible by page size"
    )


def _on_device(layer: Tensor, slots: Tensor, *, page_size: int, row_bytes: int) -> RowAddresses:
    """Return pages of a device layer by the slots that begin them."""
    return rows_by_address(
        layer, slots[::page_size], stride=row_bytes, offset=0, numbers=identity_rows
    )


def _on_host(pages: Tensor, slots: Tensor, *, page_size: int, layer: int) -> RowAddresses:
    """Return pages of one layer of a host tensor."""
    item_bytes = pages.element_size()
    return rows_by_address(
        pages,
        slots[::page_size] // page_size,
        stride=pages.stride(0) * item_bytes,
        offset=layer * pages.stride(1) * item_bytes,
        numbers=identity_rows,
    )


def transfer_kv_direct(
    src_layers: Sequence[Tensor],
    dst_layers: Sequence[Tensor],
    src_indices: Tensor,
    dst_indices: Tensor,
    page_size: int,
) -> list[KernelMove]:
    """Rows of some layers, run by run."""
    require(
        len(src_layers) == len(dst_layers),
        "Source and destination layers must have the same number of layers",
    )
    _check(src_indices, dst_indices, page_size)
    return [
        KernelMove(
            source=rows_by_slice(source, src_indices, numbers=identity_rows, slots=1),
            target=rows_by_slice(target, dst_indices, numbers=identity_rows, slots=1),
            row_bytes=source.element_size() * source.shape[1:].numel(),
        )
        for source, target in zip(src_layers, dst_layers, strict=True)
    ]


def transfer_kv_all_layer_direct_lf_pf(
    src_ptrs: Sequence[Tensor],
    dst_ptrs: Sequence[Tensor],
    src_indices: Tensor,
    dst_indices: Tensor,
    page_size: int,
) -> list[KernelMove]:
    """Pages of all layers; a target page holds all layers."""
    _check(src_indices, dst_indices, page_size)
    layer_num = len(src_ptrs) // len(dst_ptrs)
    row_bytes = _row_bytes(src_ptrs[0])
    return [
        KernelMove(
            source=_on_device(source, src_indices, page_size=page_size, row_bytes=row_bytes),
            target=_on_host(target, dst_indices, page_size=page_size, layer=layer),
            row_bytes=page_size * row_bytes,
        )
        for plane, target in enumerate(dst_ptrs)
        for layer, source in enumerate(src_ptrs[plane * layer_num :][:layer_num])
    ]


def transfer_kv_per_layer_direct_pf_lf(
    src_ptrs: Sequence[Tensor],
    dst_ptrs: Sequence[Tensor],
    src_indices: Tensor,
    dst_indices: Tensor,
    layer_id: int,
    page_size: int,
) -> list[KernelMove]:
    """Pages of some layers; a source page holds all layers."""
    _check(src_indices, dst_indices, page_size)
    layer_num = len(dst_ptrs) // len(src_ptrs)
    row_bytes = _row_bytes(dst_ptrs[0])
    return [
        KernelMove(
            source=_on_host(source, src_indices, page_size=page_size, layer=layer_id + layer),
            target=_on_device(target, dst_indices, page_size=page_size, row_bytes=row_bytes),
            row_bytes=page_size * row_bytes,
        )
        for plane, source in enumerate(src_ptrs)
        for layer, target in enumerate(dst_ptrs[plane * layer_num :][:layer_num])
    ]


def _row_bytes(layer: Tensor) -> int:
    """Return the bytes of a device row: what the kernels take for all planes and both sides."""
    return layer.element_size() * layer.shape[1:].numel()
