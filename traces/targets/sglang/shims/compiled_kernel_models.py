"""Readers of the kernels that a release compiles when it first needs them (JIT, bulk copies)."""

import torch

from traces.targets.sglang.shims.kernel_moves import (
    KernelMove,
    RowNumbering,
    identity_rows,
    rows_by_address,
)

Tensor = torch.Tensor


def _move(
    source: Tensor | int,
    target: Tensor | int,
    indices: tuple[Tensor, Tensor],
    *,
    strides: tuple[int, int],
    offsets: tuple[int, int],
    numbers: tuple[RowNumbering, RowNumbering],
    row_bytes: int,
) -> KernelMove:
    return KernelMove(
        source=rows_by_address(
            source, indices[0], stride=strides[0], offset=offsets[0], numbers=numbers[0]
        ),
        target=rows_by_address(
            target, indices[1], stride=strides[1], offset=offsets[1], numbers=numbers[1]
        ),
        row_bytes=row_bytes,
    )


def transfer_hicache_one_layer_mla(
    cache_dst: Tensor,
    indices_dst: Tensor,
    cache_src: Tensor,
    indices_src: Tensor,
    *,
    element_dim: int | None = None,
    **_tuning: object,
) -> list[KernelMove]:
    """One plane of one layer, row by row; both sides say where their rows are."""
    width = cache_dst.size(-1) if element_dim is None else element_dim
    source, target = cache_src.view(-1, width), cache_dst.view(-1, width)
    item_bytes = target.element_size()
    move = _move(
        source,
        target,
        (indices_src, indices_dst),
        strides=(source.stride(0) * item_bytes, target.stride(0) * item_bytes),
        offsets=(0, 0),
        numbers=(identity_rows, identity_rows),
        row_bytes=width * item_bytes,
    )
    return [move]


def transfer_hicache_one_layer(
    k_cache_dst: Tensor,
    v_cache_dst: Tensor,
    indices_dst: Tensor,
    k_cache_src: Tensor,
    v_cache_src: Tensor,
    indices_src: Tensor,
    *,
    element_dim: int | None = None,
    **_tuning: object,
) -> list[KernelMove]:
    """K and V of one layer; both have K's width."""
    width = k_cache_dst.size(-1) if element_dim is None else element_dim
    return [
        move
        for target, source in ((k_cache_dst, k_cache_src), (v_cache_dst, v_cache_src))
        for move in transfer_hicache_one_layer_mla(
            target, indices_dst, source, indices_src, element_dim=width
        )
    ]


def transfer_hicache_all_layer_mla(
    ptr_dst: Tensor,
    indices_dst: Tensor,
    ptr_src: Tensor,
    indices_src: Tensor,
    *,
    cache_src_stride_bytes: int,
    cache_dst_stride_bytes: int,
    element_size: int | None = None,
    **_tuning: object,
) -> list[KernelMove]:
    """One plane of all layers, by tables of addresses and strides."""
    row_bytes = cache_dst_stride_bytes if element_size is None else element_size
    return [
        _move(
            source,
            target,
            (indices_src, indices_dst),
            strides=(cache_src_stride_bytes, cache_dst_stride_bytes),
            offsets=(0, 0),
            numbers=(identity_rows, identity_rows),
            row_bytes=row_bytes,
        )
        for source, target in zip(ptr_src.tolist(), ptr_dst.tolist(), strict=True)
    ]


def transfer_hicache_all_layer(
    k_ptr_dst: Tensor,
    v_ptr_dst: Tensor,
    indices_dst: Tensor,
    k_ptr_src: Tensor,
    v_ptr_src: Tensor,
    indices_src: Tensor,
    *,
    kv_cache_src_stride_bytes: int,
    kv_cache_dst_stride_bytes: int,
    element_size: int | None = None,
    **_tuning: object,
) -> list[KernelMove]:
    """K and V of all layers."""
    return [
        move
        for target, source in ((k_ptr_dst, k_ptr_src), (v_ptr_dst, v_ptr_src))
        for move in transfer_hicache_all_layer_mla(
            target,
            indices_dst,
            source,
            indices_src,
            cache_src_stride_bytes=kv_cache_src_stride_bytes,
            cache_dst_stride_bytes=kv_cache_dst_stride_bytes,
            element_size=element_size,
        )
    ]


def transfer_hicache_all_layer_mla_staged_lf_pf(
    ptr_src: Tensor,
    src_indices: Tensor,
    dst_indices: Tensor,
    staging: Tensor,
    dst: Tensor,
    *,
    page_size: int,
    element_size: int | None = None,
    **_tuning: object,
) -> list[KernelMove]:
    """One plane of all layers into slots that hold all layers; what is staged is no matter."""
    del page_size
    row_bytes = element_size
    if row_bytes is None:
        row_bytes = staging[0, 0].numel() * staging.element_size()
    slot_bytes = dst.stride(0) * dst.element_size()
    return [
        _move(
            source,
            dst,
            (src_indices, dst_indices),
            strides=(row_bytes, slot_bytes),
            offsets=(0, layer * row_bytes),
            numbers=(identity_rows, identity_rows),
            row_bytes=row_bytes,
        )
        for layer, source in enumerate(ptr_src.tolist())
    ]


def transfer_hicache_all_layer_staged_lf_pf(
    k_ptr_src: Tensor,
    v_ptr_src: Tensor,
    src_indices: Tensor,
    dst_indices: Tensor,
    staging_k: Tensor,
    staging_v: Tensor,
    dst_k: Tensor,
    dst_v: Tensor,
    *,
    page_size: int,
    element_size: int | None = None,
    **_tuning: object,
) -> list[KernelMove]:
    """K and V of all layers into slots that hold all layers."""
    planes = ((k_ptr_src, staging_k, dst_k), (v_ptr_src, staging_v, dst_v))
    return [
        move
        for pointers, staging, target in planes
        for move in transfer_hicache_all_layer_mla_staged_lf_pf(
            pointers,
            src_indices,
            dst_indices,
            staging,
            target,
            page_size=page_size,
            element_size=element_size,
        )
    ]


def _unified_slots(*, group_num: int, page_rows: int, page_size: int) -> RowNumbering:
    """Return rows of one head group each, in pages that hold everything; from slots."""

    def numbers(slots: Tensor) -> Tensor:
        groups = torch.arange(group_num, device=slots.device)
        pages = (slots // page_size * group_num).unsqueeze(1) + groups
        return (pages * page_rows + (slots % page_size).unsqueeze(1)).view(-1)

    return numbers


def _slot_groups(group_num: int) -> RowNumbering:
    """Return rows of one head group each where a slot keeps its groups together; from slots."""

    def numbers(slots: Tensor) -> Tensor:
        groups = torch.arange(group_num, device=slots.device)
        return (slots.unsqueeze(1) * group_num + groups).view(-1)

    return numbers


def _of_pages(numbers: RowNumbering, page_size: int) -> RowNumbering:
    """Return the same rows, from page numbers."""

    def of_pages(pages: Tensor) -> Tensor:
        inside = torch.arange(page_size, device=pages.device)
        return numbers((pages.to(torch.int64).unsqueeze(1) * page_size + inside).view(-1))

    return of_pages


def transfer_hicache_one_layer_page_unified_lf(
    k_cache_dst: Tensor,
    v_cache_dst: Tensor,
    src: Tensor,
    src_indices: Tensor,
    dst_indices: Tensor,
    layer_id: int,
    **_tuning: object,
) -> list[KernelMove]:
    """K and V of one layer from ``(page, group, layer, 2, page_size, head, dim)``."""
    _, group_num, layer_num, _, page_size, head_num, width = src.shape
    row_bytes = head_num * width * src.element_size()
    host = _unified_slots(
        group_num=group_num, page_rows=layer_num * 2 * page_size, page_size=page_size
    )
    return [
        _move(
            src,
            target,
            (src_indices, dst_indices),
            strides=(row_bytes, row_bytes),
            offsets=((layer_id * 2 + plane) * page_size * row_bytes, 0),
            numbers=(host, _slot_groups(group_num)),
            row_bytes=row_bytes,
        )
        for plane, target in enumerate((k_cache_dst, v_cache_dst))
    ]


def transfer_hicache_one_layer_mla_page_unified_lf(
    cache_dst: Tensor,
    src: Tensor,
    src_indices: Tensor,
    dst_indices: Tensor,
    layer_id: int,
    **_tuning: object,
) -> list[KernelMove]:
    """One layer from ``(page, layer, page_size, dim)``."""
    _, layer_num, page_size, width = src.shape
    row_bytes = width * src.element_size()
    host = _unified_slots(group_num=1, page_rows=layer_num * page_size, page_size=page_size)
    move = _move(
        src,
        cache_dst,
        (src_indices, dst_indices),
        strides=(row_bytes, row_bytes),
        offsets=(layer_id * page_size * row_bytes, 0),
        numbers=(host, identity_rows),
        row_bytes=row_bytes,
    )
    return [move]


def transfer_hicache_all_layer_staged_lf_page_unified(
    k_ptr_src: Tensor,
    v_ptr_src: Tensor,
    src_pages: Tensor,
    dst_pages: Tensor,
    staging: Tensor,
    dst: Tensor,
) -> list[KernelMove]:
    """K and V of all layers into ``(page, group, layer, 2, page_size, head, dim)``; by pages."""
    del staging
    _, group_num, layer_num, _, page_size, head_num, width = dst.shape
    row_bytes = head_num * width * dst.element_size()
    host = _unified_slots(
        group_num=group_num, page_rows=layer_num * 2 * page_size, page_size=page_size
    )
    return [
        _move(
            source,
            dst,
            (src_pages, dst_pages),
            strides=(row_bytes, row_bytes),
            offsets=(0, (layer * 2 + plane) * page_size * row_bytes),
            numbers=(_of_pages(_slot_groups(group_num), page_size), _of_pages(host, page_size)),
            row_bytes=row_bytes,
        )
        for plane, pointers in enumerate((k_ptr_src, v_ptr_src))
        for layer, source in enumerate(pointers.tolist())
    ]


def transfer_hicache_all_layer_mla_staged_lf_page_unified(
    ptr_src: Tensor, src_pages: Tensor, dst_pages: Tensor, staging: Tensor, dst: Tensor
) -> list[KernelMove]:
    """All layers into ``(page, layer, page_size, dim)``; by pages."""
    del staging
    _, layer_num, page_size, width = dst.shape
    row_bytes = width * dst.element_size()
    host = _unified_slots(group_num=1, page_rows=layer_num * page_size, page_size=page_size)
    return [
        _move(
            source,
            dst,
            (src_pages, dst_pages),
            strides=(row_bytes, row_bytes),
            offsets=(0, layer * page_size * row_bytes),
            numbers=(_of_pages(identity_rows, page_size), _of_pages(host, page_size)),
            row_bytes=row_bytes,
        )
        for layer, source in enumerate(ptr_src.tolist())
    ]
