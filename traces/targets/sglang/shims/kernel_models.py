"""Addressings of the transfer kernels: address of row 0, stride, rows of an index.

An addressing is a function of one plane and layer of a kernel call and one of its sides. The
kernels' table (:mod:`.kernel_table`) gives each kernel two of them and a row width.

Source of the kernels' behaviour: sglang ``sgl-kernel/csrc/kvcacheio/transfer.cu`` and
``kernels/jit/csrc/kvcacheio/*.cuh``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from traces.targets.sglang.shims.kernel_moves import (
    RowAddresses,
    RowNumbering,
    identity_rows,
    require,
)

Side = Literal["src", "dst"]
_WORD_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneCopy:
    """One plane of one layer of a kernel call."""

    given: Mapping[str, Any]  # the call's arguments by parameter name
    plane: int  # 0 for K or the only plane, 1 for V
    layer: int  # place among the layers of a side that holds all of them together
    src: Any  # tensor or address
    dst: Any  # tensor or address

    def operand(self, side: Side) -> Any:  # noqa: ANN401 - a tensor or an address
        """Return the tensor or address of one side."""
        return self.src if side == "src" else self.dst

    def indices(self, side: Side) -> torch.Tensor:
        """Return the slots, or pages, of one side, ``(n,)`` integers."""
        names = (f"{side}_indices", f"indices_{side}", f"{side}_pages")
        found: torch.Tensor = next(self.given[name] for name in names if name in self.given)
        return found

    def rows(
        self,
        side: Side,
        *,
        stride: int,
        offset: int = 0,
        numbers: RowNumbering = identity_rows,
        slots: int | None = None,
    ) -> RowAddresses:
        """Return rows of one side, ``offset`` bytes after its begin; the stride is in bytes too."""
        operand = self.operand(side)
        tensor = operand if isinstance(operand, torch.Tensor) else None
        return RowAddresses(
            address=(operand if tensor is None else tensor.data_ptr()) + offset,
            stride=stride,
            indices=self.indices(side),
            numbers=numbers,
            tensor=tensor,
            slots=slots,
        )


Addressing = Callable[[PlaneCopy, Side, int], RowAddresses]
"""Returns the rows of one side, given their width in bytes."""


def layer_first(copy: PlaneCopy, side: Side, row_bytes: int) -> RowAddresses:
    """Return slots of one layer, one after the other; with ``head_num``, a row for each head."""
    heads = copy.given.get("head_num")
    numbers = identity_rows if heads is None else _slot_heads(heads)
    return copy.rows(side, stride=row_bytes, numbers=numbers)


def page_first(copy: PlaneCopy, side: Side, row_bytes: int) -> RowAddresses:
    """Return slots that hold all layers; with the call's stride, or else the tensor's."""
    stride = copy.given.get(f"{side}_layout_dim")
    if stride is None:
        stride = _axis_bytes(copy.operand(side), 0)
    return copy.rows(side, stride=stride, offset=copy.layer * row_bytes)


def page_head(copy: PlaneCopy, side: Side, row_bytes: int) -> RowAddresses:
    """Return a row for each head of pages that keep their heads apart, with all layers."""
    heads: int = copy.given["head_num"]
    page_size: int = copy.given["page_size"]

    def numbers(slots: torch.Tensor) -> torch.Tensor:
        first = slots // page_size * heads
        rows = first.unsqueeze(1) + torch.arange(heads, device=slots.device)
        return (rows * page_size + (slots % page_size).unsqueeze(1)).view(-1)

    stride = copy.given[f"{side}_layout_dim"] // heads
    return copy.rows(side, stride=stride, offset=copy.layer * row_bytes, numbers=numbers)


def own_stride(copy: PlaneCopy, side: Side, row_bytes: int) -> RowAddresses:
    """Return rows of a tensor of one layer with the tensor's stride."""
    # Both sides have the target's element size, as the kernel is compiled for one.
    item_bytes = copy.dst.element_size()
    rows = copy.operand(side).view(-1, row_bytes // item_bytes)
    return copy.rows(side, stride=rows.stride(0) * item_bytes)


def given_stride(copy: PlaneCopy, side: Side, row_bytes: int) -> RowAddresses:
    """Return rows of one layer with the call's stride."""
    del row_bytes
    return copy.rows(side, stride=_given_stride(copy, side))


def page_unified(copy: PlaneCopy, side: Side, row_bytes: int) -> RowAddresses:
    """Return rows of one head group each, in pages that hold all layers and planes."""
    host = _unified_host(copy)
    group_num, page_size = host.shape[1], host.shape[4]
    page_rows = host.shape[2:5].numel()

    def numbers(slots: torch.Tensor) -> torch.Tensor:
        first = (slots // page_size * group_num).unsqueeze(1)
        pages = first + torch.arange(group_num, device=slots.device)
        return (pages * page_rows + (slots % page_size).unsqueeze(1)).view(-1)

    offset = (copy.layer * host.shape[3] + copy.plane) * page_size * row_bytes
    return copy.rows(side, stride=row_bytes, offset=offset, numbers=_from_pages(copy, numbers))


def beside_unified(copy: PlaneCopy, side: Side, row_bytes: int) -> RowAddresses:
    """Return slots of one layer, a row for each head group of the other side."""
    host = _unified_host(copy)
    numbers = identity_rows if host.shape[3] == 1 else _slot_heads(host.shape[1])
    return copy.rows(side, stride=row_bytes, numbers=_from_pages(copy, numbers))


def slices(copy: PlaneCopy, side: Side, row_bytes: int) -> RowAddresses:
    """Return slices of a tensor's first axis, one slot long."""
    del row_bytes
    return copy.rows(side, stride=_axis_bytes(copy.operand(side), 0), slots=1)


def device_pages(copy: PlaneCopy, side: Side, row_bytes: int) -> RowAddresses:
    """Return pages of a device layer, by the slots that begin them."""
    page_size = copy.given["page_size"]
    stride = row_bytes // page_size
    return copy.rows(side, stride=stride, numbers=lambda slots: slots[::page_size])


def host_pages(copy: PlaneCopy, side: Side, row_bytes: int) -> RowAddresses:
    """Return pages of one layer of a host tensor ``(page, layer, page_size, ...)``."""
    del row_bytes
    page_size, pages = copy.given["page_size"], copy.operand(side)
    return copy.rows(
        side,
        stride=_axis_bytes(pages, 0),
        offset=copy.layer * _axis_bytes(pages, 1),
        numbers=lambda slots: slots[::page_size] // page_size,
    )


def item_bytes(copy: PlaneCopy) -> int:
    """Return ``item_size``; with ``head_num``, a head's share of it."""
    row_bytes: int = copy.given["item_size"] // copy.given.get("head_num", 1)
    require(row_bytes % _WORD_BYTES == 0, "Item byte size must be divisible by 8")
    return row_bytes


def first_target_bytes(copy: PlaneCopy) -> int:
    """Return the bytes of ``element_dim`` elements, or of the first target's row for all planes."""
    width = copy.given.get("element_dim")
    if width is None:
        first = copy.given["k_cache_dst" if "k_cache_dst" in copy.given else "cache_dst"]
        width = first.size(-1)
    return int(width * copy.dst.element_size())


def element_bytes(copy: PlaneCopy) -> int:
    """Return ``element_size``; without one the width of the staging buffer or the target stride."""
    size, staging = copy.given.get("element_size"), ("staging", "staging_k", "staging_v")
    buffers = [copy.given[name] for name in staging if name in copy.given]
    if size is None and buffers:
        size = buffers[copy.plane][0, 0].numel() * buffers[copy.plane].element_size()
    return _given_stride(copy, "dst") if size is None else int(size)


def unified_bytes(copy: PlaneCopy) -> int:
    """Return the bytes of all heads of one group."""
    return _slot_bytes(_unified_host(copy)[0, 0, 0, 0])


def source_bytes(copy: PlaneCopy) -> int:
    """Return the bytes of a slot of the source."""
    return _slot_bytes(copy.src)


def page_bytes(copy: PlaneCopy) -> int:
    """Return the bytes of a page of the first device layer.

    Pages go to the driver in one batch: unlike slices, whose shapes torch compares, pages of
    unequal width are copied as they are, with the first layer's width. (Measured with kernels
    0.4.2.post2 on an H100.)
    """
    given = copy.given
    first = given["dst_ptrs" if "layer_id" in given else "src_ptrs"][0]
    return int(given["page_size"] * _slot_bytes(first))


def _slot_heads(head_num: int) -> RowNumbering:
    """Return rows of one head each where a slot keeps its heads together."""

    def numbers(slots: torch.Tensor) -> torch.Tensor:
        heads = torch.arange(head_num, device=slots.device)
        return (slots.unsqueeze(1) * head_num + heads).view(-1)

    return numbers


def _unified_host(copy: PlaneCopy) -> torch.Tensor:
    """Return ``(page, group, layer, plane, page_size, head, dim)``, whatever axes are left out."""
    host: torch.Tensor = copy.given["src"] if "src" in copy.given else copy.given["dst"]
    is_one_plane = host.dim() == len(("page", "layer", "page_size", "dim"))
    return host.unsqueeze(1).unsqueeze(3).unsqueeze(5) if is_one_plane else host


def _from_pages(copy: PlaneCopy, numbers: RowNumbering) -> RowNumbering:
    """Return the same rows; from page numbers where the kernel is given pages."""
    if "src_pages" not in copy.given:
        return numbers
    page_size = _unified_host(copy).shape[4]

    def from_pages(pages: torch.Tensor) -> torch.Tensor:
        inside = torch.arange(page_size, device=pages.device)
        return numbers((pages.to(torch.int64).unsqueeze(1) * page_size + inside).view(-1))

    return from_pages


def _given_stride(copy: PlaneCopy, side: Side) -> int:
    planes = "kv_" if f"kv_cache_{side}_stride_bytes" in copy.given else ""
    return int(copy.given[f"{planes}cache_{side}_stride_bytes"])


def _slot_bytes(layer: torch.Tensor) -> int:
    return layer.element_size() * layer.shape[1:].numel()


def _axis_bytes(tensor: torch.Tensor, axis: int) -> int:
    return tensor.stride(axis) * tensor.element_size()
