"""Readers of the ``direct`` kernels, which copy slices of tensors."""

from collections.abc import Sequence

import torch

from traces.targets.sglang.standins.moves import Move, Numbers, require, same, slices

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


def _first_slots(page_size: int) -> Numbers:
    """Return the first slot of each page."""
    return lambda slots: slots[::page_size]


def _pages(page_size: int) -> Numbers:
    """Return the number of each page."""
    return lambda slots: slots[::page_size] // page_size


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
            source=slices(source, src_indices, numbers=_first_slots(page_size), slots=page_size),
            target=slices(target[:, layer], dst_indices, numbers=_pages(page_size), slots=None),
            row_bytes=_page_bytes(source, page_size),
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
            source=slices(
                source[:, layer_id + layer], src_indices, numbers=_pages(page_size), slots=None
            ),
            target=slices(target, dst_indices, numbers=_first_slots(page_size), slots=page_size),
            row_bytes=_page_bytes(target, page_size),
        )
        for plane, source in enumerate(src_ptrs)
        for layer, target in enumerate(dst_ptrs[plane * layer_num :][:layer_num])
    ]


def _page_bytes(layer: Tensor, page_size: int) -> int:
    return page_size * layer.element_size() * layer.shape[1:].numel()
