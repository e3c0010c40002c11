"""Readers of the kernels that copy rows by address, built ahead of time.

Every parameter is the kernel's own; tuning parameters move no other bytes and are dropped.
"""

from collections.abc import Sequence

import torch

from traces.targets.sglang.shims.kernel_moves import (
    KernelMove,
    RowNumbering,
    identity_rows,
    require,
    rows_by_address,
)

Tensor = torch.Tensor
_WORD_BYTES = 8


def _moves(
    planes: Sequence[tuple[Tensor | int, Tensor | int]],
    indices: tuple[Tensor, Tensor],
    *,
    strides: tuple[int, int],
    offsets: tuple[int, int],
    numbers: tuple[RowNumbering, RowNumbering],
    row_bytes: int,
) -> list[KernelMove]:
    require(indices[0].dtype == torch.int64, "Source indices must be of type long")
    require(indices[1].dtype == torch.int64, "Destination indices must be of type long")
    require(
        indices[0].numel() == indices[1].numel(),
        "Source and destination indices must have the same length",
    )
    require(row_bytes % _WORD_BYTES == 0, "Item byte size must be divisible by 8")
    return [
        KernelMove(
            source=rows_by_address(
                source, indices[0], stride=strides[0], offset=offsets[0], numbers=numbers[0]
            ),
            target=rows_by_address(
                target, indices[1], stride=strides[1], offset=offsets[1], numbers=numbers[1]
            ),
            row_bytes=row_bytes,
        )
        for source, target in planes
    ]


def _slots(
    planes: Sequence[tuple[Tensor | int, Tensor | int]],
    indices: tuple[Tensor, Tensor],
    *,
    strides: tuple[int, int],
    offsets: tuple[int, int],
    row_bytes: int,
) -> list[KernelMove]:
    """Return moves of whole slots."""
    return _moves(
        planes,
        indices,
        strides=strides,
        offsets=offsets,
        numbers=(identity_rows, identity_rows),
        row_bytes=row_bytes,
    )


def _table(pointers: Tensor, layer_num: int) -> list[int]:
    require(
        pointers.size(0) == layer_num,
        "Number of layers in source tensor does not match num_layers",
    )
    addresses: list[int] = pointers.tolist()
    return addresses


def _slot_heads(head_num: int) -> RowNumbering:
    """Return rows of one head each where a slot keeps its heads together."""

    def numbers(slots: Tensor) -> Tensor:
        heads = torch.arange(head_num, device=slots.device)
        return (slots.unsqueeze(1) * head_num + heads).view(-1)

    return numbers


def _page_heads(head_num: int, page_size: int) -> RowNumbering:
    """Return rows of one head each where a page keeps its heads apart."""

    def numbers(slots: Tensor) -> Tensor:
        heads = torch.arange(head_num, device=slots.device)
        first = slots // page_size * head_num
        rows = (first.unsqueeze(1) + heads) * page_size + (slots % page_size).unsqueeze(1)
        return rows.view(-1)

    return numbers


def transfer_kv_per_layer(
    src_k: Tensor,
    dst_k: Tensor,
    src_v: Tensor,
    dst_v: Tensor,
    src_indices: Tensor,
    dst_indices: Tensor,
    item_size: int,
    *_tuning: object,
    **_named_tuning: object,
) -> list[KernelMove]:
    """K and V of one layer, slot by slot on both sides."""
    return _slots(
        [(src_k, dst_k), (src_v, dst_v)],
        (src_indices, dst_indices),
        strides=(item_size, item_size),
        offsets=(0, 0),
        row_bytes=item_size,
    )


def transfer_kv_per_layer_pf_lf(
    src_k: Tensor,
    dst_k: Tensor,
    src_v: Tensor,
    dst_v: Tensor,
    src_indices: Tensor,
    dst_indices: Tensor,
    layer_id: int,
    item_size: int,
    src_layout_dim: int,
    *_tuning: object,
    **_named_tuning: object,
) -> list[KernelMove]:
    """K and V of one layer; a source slot holds all layers."""
    return _slots(
        [(src_k, dst_k), (src_v, dst_v)],
        (src_indices, dst_indices),
        strides=(src_layout_dim, item_size),
        offsets=(layer_id * item_size, 0),
        row_bytes=item_size,
    )


def transfer_kv_per_layer_ph_lf(
    src_k: Tensor,
    dst_k: Tensor,
    src_v: Tensor,
    dst_v: Tensor,
    src_indices: Tensor,
    dst_indices: Tensor,
    layer_id: int,
    item_size: int,
    src_layout_dim: int,
    page_size: int,
    head_num: int,
    *_tuning: object,
    **_named_tuning: object,
) -> list[KernelMove]:
    """K and V of one layer, head by head; a source page holds its heads apart, with all layers."""
    head_bytes = item_size // head_num
    return _moves(
        [(src_k, dst_k), (src_v, dst_v)],
        (src_indices, dst_indices),
        strides=(src_layout_dim // head_num, head_bytes),
        offsets=(layer_id * head_bytes, 0),
        numbers=(_page_heads(head_num, page_size), _slot_heads(head_num)),
        row_bytes=head_bytes,
    )


def transfer_kv_all_layer(
    src_k_layers: Tensor,
    dst_k_layers: Tensor,
    src_v_layers: Tensor,
    dst_v_layers: Tensor,
    src_indices: Tensor,
    dst_indices: Tensor,
    item_size: int,
    num_layers: int,
    *_tuning: object,
    **_named_tuning: object,
) -> list[KernelMove]:
    """K and V of all layers, by tables of addresses."""
    keys = zip(_table(src_k_layers, num_layers), _table(dst_k_layers, num_layers), strict=True)
    values = zip(_table(src_v_layers, num_layers), _table(dst_v_layers, num_layers), strict=True)
    return _slots(
        [*keys, *values],
        (src_indices, dst_indices),
        strides=(item_size, item_size),
        offsets=(0, 0),
        row_bytes=item_size,
    )


def transfer_kv_all_layer_lf_pf(
    src_k_layers: Tensor,
    dst_k: Tensor,
    src_v_layers: Tensor,
    dst_v: Tensor,
    src_indices: Tensor,
    dst_indices: Tensor,
    item_size: int,
    dst_layout_dim: int,
    num_layers: int,
    *_tuning: object,
    **_named_tuning: object,
) -> list[KernelMove]:
    """K and V of all layers; a target slot holds all layers."""
    return [
        move
        for pointers, target in ((src_k_layers, dst_k), (src_v_layers, dst_v))
        for move in transfer_kv_all_layer_mla_lf_pf(
            pointers, target, src_indices, dst_indices, item_size, dst_layout_dim, num_layers
        )
    ]


def transfer_kv_all_layer_lf_ph(
    src_k_layers: Tensor,
    dst_k: Tensor,
    src_v_layers: Tensor,
    dst_v: Tensor,
    src_indices: Tensor,
    dst_indices: Tensor,
    item_size: int,
    dst_layout_dim: int,
    num_layers: int,
    page_size: int,
    head_num: int,
    *_tuning: object,
    **_named_tuning: object,
) -> list[KernelMove]:
    """K and V of all layers, head by head; a target page holds its heads apart."""
    head_bytes = item_size // head_num
    return [
        move
        for pointers, target in ((src_k_layers, dst_k), (src_v_layers, dst_v))
        for layer, source in enumerate(_table(pointers, num_layers))
        for move in _moves(
            [(source, target)],
            (src_indices, dst_indices),
            strides=(head_bytes, dst_layout_dim // head_num),
            offsets=(0, layer * head_bytes),
            numbers=(_slot_heads(head_num), _page_heads(head_num, page_size)),
            row_bytes=head_bytes,
        )
    ]


def transfer_kv_per_layer_mla(
    src: Tensor,
    dst: Tensor,
    src_indices: Tensor,
    dst_indices: Tensor,
    item_size: int,
    *_tuning: object,
    **_named_tuning: object,
) -> list[KernelMove]:
    """The only plane of one layer, row by row on both sides."""
    return _slots(
        [(src, dst)],
        (src_indices, dst_indices),
        strides=(item_size, item_size),
        offsets=(0, 0),
        row_bytes=item_size,
    )


def transfer_kv_per_layer_mla_pf_lf(
    src: Tensor,
    dst: Tensor,
    src_indices: Tensor,
    dst_indices: Tensor,
    layer_id: int,
    item_size: int,
    src_layout_dim: int,
    *_tuning: object,
    **_named_tuning: object,
) -> list[KernelMove]:
    """The only plane of one layer; a source row holds all layers."""
    return _slots(
        [(src, dst)],
        (src_indices, dst_indices),
        strides=(src_layout_dim, item_size),
        offsets=(layer_id * item_size, 0),
        row_bytes=item_size,
    )


def transfer_kv_all_layer_mla(
    src_layers: Tensor,
    dst_layers: Tensor,
    src_indices: Tensor,
    dst_indices: Tensor,
    item_size: int,
    num_layers: int,
    *_tuning: object,
    **_named_tuning: object,
) -> list[KernelMove]:
    """The only plane of all layers, by tables of addresses."""
    layers = zip(_table(src_layers, num_layers), _table(dst_layers, num_layers), strict=True)
    return _slots(
        list(layers),
        (src_indices, dst_indices),
        strides=(item_size, item_size),
        offsets=(0, 0),
        row_bytes=item_size,
    )


def transfer_kv_all_layer_mla_lf_pf(
    src_layers: Tensor,
    dst: Tensor,
    src_indices: Tensor,
    dst_indices: Tensor,
    item_size: int,
    dst_layout_dim: int,
    num_layers: int,
    *_tuning: object,
    **_named_tuning: object,
) -> list[KernelMove]:
    """The only plane of all layers; a target row holds all layers."""
    return [
        move
        for layer, source in enumerate(_table(src_layers, num_layers))
        for move in _slots(
            [(source, dst)],
            (src_indices, dst_indices),
            strides=(item_size, dst_layout_dim),
            offsets=(0, layer * item_size),
            row_bytes=item_size,
        )
    ]


def transfer_kv_mamba_pf_lf(
    src: Tensor,
    dst: Tensor,
    src_indices: Tensor,
    dst_indices: Tensor,
    layer_id: int,
    item_size: int,
    src_layout_dim: int,
    *_tuning: object,
    **_named_tuning: object,
) -> list[KernelMove]:
    """One layer's states; a source slot holds all layers."""
    return transfer_kv_per_layer_mla_pf_lf(
        src, dst, src_indices, dst_indices, layer_id, item_size, src_layout_dim
    )


def transfer_kv_mamba_lf_pf(
    src_ptrs: Tensor,
    dst: Tensor,
    src_indices: Tensor,
    dst_indices: Tensor,
    item_size: int,
    dst_layout_dim: int,
    num_layers: int,
    *_tuning: object,
    **_named_tuning: object,
) -> list[KernelMove]:
    """All layers' states; a target slot holds all layers."""
    return transfer_kv_all_layer_mla_lf_pf(
        src_ptrs, dst, src_indices, dst_indices, item_size, dst_layout_dim, num_layers
    )
