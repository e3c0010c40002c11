"""Table of the transfer kernels: parameters, addressing of both sides, row width.

A row names a kernel's parameters in the kernel's own order; ``*`` stands for tuning parameters,
which change no bytes. Parameters with ``src`` in their name are the source's, those with ``dst``
the target's: one for each plane, K before V. A parameter with ``ptr`` or ``layers`` in its name is
a table with an address for each layer; any other tensor holds one layer, or all of them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from typing_extensions import override

from traces.targets.sglang.shims.kernel_models import (
    Addressing,
    PlaneCopy,
    beside_unified,
    device_pages,
    element_bytes,
    first_target_bytes,
    given_stride,
    host_pages,
    item_bytes,
    layer_first,
    own_stride,
    page_bytes,
    page_first,
    page_head,
    page_unified,
    slices,
    source_bytes,
    unified_bytes,
)
from traces.targets.sglang.shims.kernel_moves import KernelMove, require

_TUNING = "*"
_NOT_OPERANDS = ("indices", "pages", "_dim")
_Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Row:
    parameters: str
    source: Addressing
    target: Addressing
    row_bytes: Callable[[PlaneCopy], int]

    def operands(self, given: _Arguments) -> tuple[list[Any], list[Any]]:
        """Return the operands of source and target by plane; tables as lists, by layer."""
        names = [
            name
            for name in self.parameters.split()
            if not any(word in name for word in _NOT_OPERANDS)
        ]
        sources, targets = (
            [_operand(given, name) for name in names if side in name] for side in ("src", "dst")
        )
        return sources, targets


class _SliceRow(_Row):
    """A kernel that is given lists of tensors, a layer of a plane each."""

    @override
    def operands(self, given: _Arguments) -> tuple[list[Any], list[Any]]:
        sources, targets = given["src_layers"], given["dst_layers"]
        require(
            len(sources) == len(targets),
            "Source and destination layers must have the same number of layers",
        )
        return sources, targets


class _PageRow(_Row):
    """A kernel that is given device layers, plane after plane, and one host tensor a plane."""

    @override
    def operands(self, given: _Arguments) -> tuple[list[Any], list[Any]]:
        sources, targets = given["src_ptrs"], given["dst_ptrs"]
        if self.source is host_pages:
            return sources, _by_plane(targets, len(sources))
        return _by_plane(sources, len(targets)), targets


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferKernel:
    """One transfer kernel."""

    name: str  # of the function that a release calls
    backend: str  # ``kernel`` or ``direct``
    is_compiled: bool  # whether a release compiles it itself, instead of taking it from sgl_kernel
    # Refuses the arguments that the kernel refuses, in its words.
    check: Callable[[_Arguments], None]
    row: _Row  # how it addresses memory

    def read(self, *arguments: object, **named: object) -> list[KernelMove]:
        """Return what a call with these arguments copies: a move for each plane and layer."""
        given = self._bind(arguments, named)
        self.check(given)
        moves = []
        for copy in _copies(given, *self.row.operands(given)):
            row_bytes = self.row.row_bytes(copy)
            source = self.row.source(copy, "src", row_bytes)
            target = self.row.target(copy, "dst", row_bytes)
            moves.append(KernelMove(source=source, target=target, row_bytes=row_bytes))
        return moves

    def _bind(self, arguments: tuple[object, ...], named: _Arguments) -> _Arguments:
        names = self.row.parameters.split()
        takes_tuning = names[-1] == _TUNING
        names = names[:-1] if takes_tuning else names
        given = {**dict(zip(names, arguments, strict=False)), **named}
        is_exact = len(arguments) <= len(names) and given.keys() == set(names)
        if not set(names) <= given.keys() or not (takes_tuning or is_exact):
            got = f"{len(arguments)} positional and {sorted(named)}"
            raise TypeError(f"{self.name}: wrong arguments; expected {names}, got {got}")
        return given


def _copies(given: _Arguments, sources: list[Any], targets: list[Any]) -> Iterator[PlaneCopy]:
    """Yield planes and, of each, layers. The only tensor of a side holds all planes."""
    first = given.get("layer_id", 0)
    for plane in range(max(len(sources), len(targets))):
        pair = sources[plane % len(sources)], targets[plane % len(targets)]
        layer_num = next((len(side) for side in pair if isinstance(side, list)), 1)
        layers = (side if isinstance(side, list) else [side] * layer_num for side in pair)
        for layer, (source, target) in enumerate(zip(*layers, strict=True), start=first):
            yield PlaneCopy(given=given, plane=plane, layer=layer, src=source, dst=target)


def _operand(given: _Arguments, name: str) -> Any:  # noqa: ANN401 - a tensor or addresses
    if not ("ptr" in name or "layers" in name):
        return given[name]
    require(
        given[name].size(0) == given.get("num_layers", given[name].size(0)),
        "Number of layers in source tensor does not match num_layers",
    )
    return given[name].tolist()


def _by_plane(layers: list[Any], plane_num: int) -> list[Any]:
    layer_num = len(layers) // plane_num
    return [list(layers[plane * layer_num :][:layer_num]) for plane in range(plane_num)]


def _check_indices(given: _Arguments) -> None:
    source, target = given["src_indices"], given["dst_indices"]
    require(source.dtype == torch.int64, "Source indices must be of type long")
    require(target.dtype == torch.int64, "Destination indices must be of type long")
    _check_length(given)


def _check_pages(given: _Arguments) -> None:
    _check_length(given)
    slot_num, page_size = given["src_indices"].numel(), given["page_size"]
    require(page_size > 0, "Page size must be positive")
    require(slot_num % page_size == 0, "Source indices size must be divisible by page size")


def _check_length(given: _Arguments) -> None:
    require(
        given["src_indices"].numel() == given["dst_indices"].numel(),
        "Source and destination indices must have the same length",
    )


_SLOTS = "src_indices dst_indices"
_KV = f"src_k dst_k src_v dst_v {_SLOTS}"
_KV_TABLES = "src_k_layers dst_k_layers src_v_layers dst_v_layers"
_KV_TO_PAGES = f"src_k_layers dst_k src_v_layers dst_v {_SLOTS} item_size dst_layout_dim num_layers"
_MLA_TABLES = "src_layers dst_layers"
_ONE_PAGE_FIRST = "layer_id item_size src_layout_dim"
_ALL_PAGE_FIRST = f"dst {_SLOTS} item_size dst_layout_dim num_layers"

_PREBUILT = {
    "transfer_kv_per_layer": _Row(f"{_KV} item_size *", layer_first, layer_first, item_bytes),
    "transfer_kv_per_layer_pf_lf": _Row(
        f"{_KV} {_ONE_PAGE_FIRST} *", page_first, layer_first, item_bytes
    ),
    "transfer_kv_per_layer_ph_lf": _Row(
        f"{_KV} {_ONE_PAGE_FIRST} page_size head_num *", page_head, layer_first, item_bytes
    ),
    "transfer_kv_all_layer": _Row(
        f"{_KV_TABLES} {_SLOTS} item_size num_layers *", layer_first, layer_first, item_bytes
    ),
    "transfer_kv_all_layer_lf_pf": _Row(f"{_KV_TO_PAGES} *", layer_first, page_first, item_bytes),
    "transfer_kv_all_layer_lf_ph": _Row(
        f"{_KV_TO_PAGES} page_size head_num *", layer_first, page_head, item_bytes
    ),
    "transfer_kv_per_layer_mla": _Row(
        f"src dst {_SLOTS} item_size *", layer_first, layer_first, item_bytes
    ),
    "transfer_kv_per_layer_mla_pf_lf": _Row(
        f"src dst {_SLOTS} {_ONE_PAGE_FIRST} *", page_first, layer_first, item_bytes
    ),
    "transfer_kv_all_layer_mla": _Row(
        f"{_MLA_TABLES} {_SLOTS} item_size num_layers *", layer_first, layer_first, item_bytes
    ),
    "transfer_kv_all_layer_mla_lf_pf": _Row(
        f"src_layers {_ALL_PAGE_FIRST} *", layer_first, page_first, item_bytes
    ),
    "transfer_kv_mamba_pf_lf": _Row(
        f"src dst {_SLOTS} {_ONE_PAGE_FIRST} *", page_first, layer_first, item_bytes
    ),
    "transfer_kv_mamba_lf_pf": _Row(
        f"src_ptrs {_ALL_PAGE_FIRST} *", layer_first, page_first, item_bytes
    ),
}
_COMPILED = {
    "transfer_hicache_one_layer_mla": _Row(
        "cache_dst indices_dst cache_src indices_src *", own_stride, own_stride, first_target_bytes
    ),
    "transfer_hicache_one_layer": _Row(
        "k_cache_dst v_cache_dst indices_dst k_cache_src v_cache_src indices_src *",
        own_stride,
        own_stride,
        first_target_bytes,
    ),
    "transfer_hicache_all_layer_mla": _Row(
        "ptr_dst indices_dst ptr_src indices_src *", given_stride, given_stride, element_bytes
    ),
    "transfer_hicache_all_layer": _Row(
        "k_ptr_dst v_ptr_dst indices_dst k_ptr_src v_ptr_src indices_src *",
        given_stride,
        given_stride,
        element_bytes,
    ),
    "transfer_hicache_all_layer_mla_staged_lf_pf": _Row(
        f"ptr_src {_SLOTS} staging dst *", layer_first, page_first, element_bytes
    ),
    "transfer_hicache_all_layer_staged_lf_pf": _Row(
        f"k_ptr_src v_ptr_src {_SLOTS} staging_k staging_v dst_k dst_v *",
        layer_first,
        page_first,
        element_bytes,
    ),
    "transfer_hicache_one_layer_page_unified_lf": _Row(
        f"k_cache_dst v_cache_dst src {_SLOTS} layer_id *",
        page_unified,
        beside_unified,
        unified_bytes,
    ),
    "transfer_hicache_one_layer_mla_page_unified_lf": _Row(
        f"cache_dst src {_SLOTS} layer_id *", page_unified, beside_unified, unified_bytes
    ),
    "transfer_hicache_all_layer_staged_lf_page_unified": _Row(
        "k_ptr_src v_ptr_src src_pages dst_pages staging dst",
        beside_unified,
        page_unified,
        unified_bytes,
    ),
    "transfer_hicache_all_layer_mla_staged_lf_page_unified": _Row(
        "ptr_src src_pages dst_pages staging dst", beside_unified, page_unified, unified_bytes
    ),
}
_DIRECT = {
    "transfer_kv_direct": _SliceRow(
        f"src_layers dst_layers {_SLOTS} page_size", slices, slices, source_bytes
    ),
    "transfer_kv_all_layer_direct_lf_pf": _PageRow(
        f"src_ptrs dst_ptrs {_SLOTS} page_size", device_pages, host_pages, page_bytes
    ),
    "transfer_kv_per_layer_direct_pf_lf": _PageRow(
        f"src_ptrs dst_ptrs {_SLOTS} layer_id page_size", host_pages, device_pages, page_bytes
    ),
}

KERNELS: dict[str, TransferKernel] = {
    name: TransferKernel(name=name, backend=backend, is_compiled=compiled, check=check, row=row)
    for rows, backend, compiled, check in (
        (_PREBUILT, "kernel", False, _check_indices),
        (_COMPILED, "kernel", True, lambda _: None),
        (_DIRECT, "direct", False, _check_pages),
    )
    for name, row in rows.items()
}
"""Every kernel that a release uses to move rows between a host pool and a device pool."""
