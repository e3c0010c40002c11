"""Readers of the ``direct`` kernels: slices of tensors, or whole pages by address.

The kernels that copy pages hand all of them to the driver at once, by address: unlike slices, which
torch compares, pages of unequal width are copied as they are. (Measured with kernels 0.4.2.post2.)
"""

from collections.abc import Sequence

import torch

from traces.targets.sglang.standins.moves import Move, Side, require, same, side, slices

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


def _pages(
    tensor: Tensor, slots: Tensor, *, page_size: int, is_host: bool, layer: int | None
) -> Side:
    """Return pages by address; a host row is a page of one layer, a device row begins a page."""
    first = slots[::page_size]
    stride = tensor.stride(0) * tensor.element_size()
    offset = 0 if layer is None else layer * tensor.stride(1) * tensor.element_size()
    rows = first // page_size if is_host else first
    return side(tensor, rows, stride=stride, offset=offset, numbers=same)


def transfer_kv_direct(
    src_layers: Sequence[Tensor],
    dst_layers: Sequence[Tensor],
    src_indices: Tensor,
    dst_indices: Tensor,
    page_size: int,
) -> list[Move]:
    """Rows of some layers, run by run."""
    require(
        len(src_layers) == len(dst_layers),
        "Source and destination layers must have the same number of layers",
    )
    _check(src_indices, dst_indices, page_size)
    return [
        Move(
            source=slices(source, src_indices, numbers=same, slots=1),
            target=slices(target, dst_indices, numbers=same, slots=1),
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
) -> list[Move]:
    """Pages of all layers; a target page holds all layers."""
    _check(src_indices, dst_indices, page_size)
    layer_num = len(src_ptrs) // len(dst_ptrs)
    return [
        Move(
            source=_pages(source, src_indices, page_size=page_size, is_host=False, layer=None),
            target=_pages(target, dst_indices, page_size=page_size, is_host=True, layer=layer),
            row_bytes=_page_bytes(target),
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
) -> list[Move]:
    """Pages of some layers; a source page holds all layers."""
    _check(src_indices, dst_indices, page_size)
    layer_num = len(dst_ptrs) // len(src_ptrs)
    return [
        Move(
            source=_pages(
                source, src_indices, page_size=page_size, is_host=True, layer=layer_id + layer
            ),
            target=_pages(target, dst_indices, page_size=page_size, is_host=False, layer=None),
            row_bytes=_page_bytes(source),
        )
        for plane, source in enumerate(src_ptrs)
        for layer, target in enumerate(dst_ptrs[plane * layer_num :][:layer_num])
    ]


def _page_bytes(host: Tensor) -> int:
    """Return the bytes of a page of one layer as the host has them; nobody asks the device."""
    return host.element_size() * host.shape[2:].numel()
