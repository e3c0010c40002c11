"""One call of each transfer kernel on small tensors, and what it must do, row by row.

The expectation is written with plain indexing of the tensors' layouts, and shares nothing with the
table of readers.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

LAYERS, PAGE, HEADS, WIDTH = 3, 4, 2, 32
DEVICE_ROWS, HOST_ROWS = 32, 48
DEVICE_SLOTS = [4, 5, 6, 7, 16, 17, 18, 19]
HOST_SLOTS = [40, 41, 42, 43, 8, 9, 10, 11]
ROW_BYTES = HEADS * WIDTH * 2
LAYER = 1
Place = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class Case:
    """One call.

    Attributes:
        arguments: of the kernel.
        planes: ``(device layers, host tensor)`` of each plane.
        layout: of the host tensors.
        is_backup: whether the kernel writes to the host.
        layers: which layers it moves.
    """

    arguments: dict[str, Any]
    planes: list[tuple[list[torch.Tensor], torch.Tensor]]
    layout: str
    is_backup: bool
    layers: list[int]
    keep: list[torch.Tensor] = field(default_factory=list)

    def expected(self) -> list[torch.Tensor]:
        """Return all tensors as they must be afterwards."""
        planes = [
            ([layer.clone() for layer in layers], host.clone()) for layers, host in self.planes
        ]
        for plane, (layers, host) in enumerate(planes):
            for layer in self.layers:
                for device_slot, host_slot in zip(DEVICE_SLOTS, HOST_SLOTS, strict=True):
                    on_host = host_slot_of(self.layout, host, host_slot, layer, plane)
                    on_device = layers[layer][device_slot].view_as(on_host)
                    if self.is_backup:
                        on_host.copy_(on_device)
                    else:
                        on_device.copy_(on_host)
        if self.layout == "page_unified":
            # Both planes are in one tensor: plane 1's clone lacks what plane 0 wrote.
            first, second = planes[0][1], planes[1][1]
            first[:, :, :, 1] = second[:, :, :, 1]
            planes[1] = (planes[1][0], first)
        return [tensor for layers, host in planes for tensor in (*layers, host)]

    def tensors(self) -> list[torch.Tensor]:
        """Return all tensors as they are."""
        return [tensor for layers, host in self.planes for tensor in (*layers, host)]


def host_slot_of(
    layout: str, host: torch.Tensor, slot: int, layer: int, plane: int
) -> torch.Tensor:
    """Return one slot and layer of a host tensor."""
    page, inside = divmod(slot, PAGE)
    match layout:
        case "layer_first":
            return host[layer, slot]
        case "page_first":
            return host[slot, layer]
        case "page_head":
            return host[page, :, inside, layer]
        case "page_first_direct":
            return host[page, layer, inside]
        case "page_unified":
            return host[page, :, layer, plane, inside].squeeze(1)
        case "page_unified_mla":
            return host[page, layer, inside].view(HEADS, WIDTH)
    raise AssertionError(layout)


_PAGES = HOST_ROWS // PAGE
_SHAPES = {
    "layer_first": (LAYERS, HOST_ROWS, HEADS, WIDTH),
    "page_first": (HOST_ROWS, LAYERS, HEADS, WIDTH),
    "page_head": (_PAGES, HEADS, PAGE, LAYERS, WIDTH),
    "page_first_direct": (_PAGES, LAYERS, PAGE, HEADS, WIDTH),
    "page_unified": (_PAGES, HEADS, LAYERS, 2, PAGE, 1, WIDTH),
    "page_unified_mla": (_PAGES, LAYERS, PAGE, HEADS * WIDTH),
}
# Name: layout, planes, whether all layers are moved (which is a backup).
KERNELS: dict[str, tuple[str, int, bool]] = {
    "transfer_kv_per_layer": ("layer_first", 2, False),
    "transfer_kv_per_layer_pf_lf": ("page_first", 2, False),
    "transfer_kv_per_layer_ph_lf": ("page_head", 2, False),
    "transfer_kv_all_layer": ("layer_first", 2, True),
    "transfer_kv_all_layer_lf_pf": ("page_first", 2, True),
    "transfer_kv_all_layer_lf_ph": ("page_head", 2, True),
    "transfer_kv_per_layer_mla": ("layer_first", 1, False),
    "transfer_kv_per_layer_mla_pf_lf": ("page_first", 1, False),
    "transfer_kv_all_layer_mla": ("layer_first", 1, True),
    "transfer_kv_all_layer_mla_lf_pf": ("page_first", 1, True),
    "transfer_kv_mamba_pf_lf": ("page_first", 1, False),
    "transfer_kv_mamba_lf_pf": ("page_first", 1, True),
    "transfer_kv_direct": ("layer_first", 2, True),
    "transfer_kv_all_layer_direct_lf_pf": ("page_first_direct", 2, True),
    "transfer_kv_per_layer_direct_pf_lf": ("page_first_direct", 2, False),
    "transfer_hicache_one_layer": ("layer_first", 2, False),
    "transfer_hicache_one_layer_mla": ("page_first", 1, False),
    "transfer_hicache_all_layer": ("layer_first", 2, True),
    "transfer_hicache_all_layer_mla": ("page_first", 1, True),
    "transfer_hicache_all_layer_staged_lf_pf": ("page_first", 2, True),
    "transfer_hicache_all_layer_mla_staged_lf_pf": ("page_first", 1, True),
    "transfer_hicache_one_layer_page_unified_lf": ("page_unified", 2, False),
    "transfer_hicache_one_layer_mla_page_unified_lf": ("page_unified_mla", 1, False),
    "transfer_hicache_all_layer_staged_lf_page_unified": ("page_unified", 2, True),
    "transfer_hicache_all_layer_mla_staged_lf_page_unified": ("page_unified_mla", 1, True),
}


def make_case(name: str, *, on_device: Place, on_host: Place, index_device: str) -> Case:
    """Return a call of a kernel.

    Args:
        name: of the kernel.
        on_device: puts a tensor into device memory.
        on_host: puts a tensor into page-locked host memory.
        index_device: where index tensors and tables of addresses are, unless on the host.
    """
    layout, plane_num, is_backup = KERNELS[name]
    generator = torch.Generator().manual_seed(5)

    def random(shape: tuple[int, ...]) -> torch.Tensor:
        numbers = torch.randint(-120, 120, shape, generator=generator, dtype=torch.int32)
        return numbers.to(torch.bfloat16)

    hosts = [on_host(random(_SHAPES[layout])) for _ in range(plane_num)]
    if layout == "page_unified":
        hosts = [hosts[0], hosts[0]]
    planes = [
        ([on_device(random((DEVICE_ROWS, HEADS, WIDTH))) for _ in range(LAYERS)], host)
        for host in hosts
    ]
    case = Case({}, planes, layout, is_backup, list(range(LAYERS)) if is_backup else [LAYER])
    _fill(name, case, on_device, index_device)
    return case


def _fill(name: str, case: Case, on_device: Place, index_device: str) -> None:
    """Fill in the arguments."""
    _, _, is_backup = KERNELS[name]
    place = "cpu" if "direct" in name else index_device
    device_indices = torch.tensor(DEVICE_SLOTS, device=place)
    host_indices = torch.tensor(HOST_SLOTS, device="cpu" if "staged" in name else place)
    pair = (device_indices, host_indices) if is_backup else (host_indices, device_indices)

    def table(tensors: list[torch.Tensor]) -> torch.Tensor:
        case.keep.extend(tensors)
        addresses = [tensor.data_ptr() for tensor in tensors]
        return torch.tensor(addresses, dtype=torch.uint64, device=index_device)

    if "hicache" in name:
        case.arguments = _compiled(name, case, pair, table, on_device)
        return
    own = _direct(name, case) if "direct" in name else _by_address(name, case, table)
    case.arguments = {**own, "src_indices": pair[0], "dst_indices": pair[1]}


def _direct(name: str, case: Case) -> dict[str, Any]:
    """Return the arguments of a kernel that copies slices, without indices."""
    _, _, is_backup = KERNELS[name]
    hosts = [host for _, host in case.planes]
    flat = [layer for layers, _ in case.planes for layer in layers]
    if name == "transfer_kv_direct":
        host_layers = [host[layer] for host in hosts for layer in range(LAYERS)]
        return {"src_layers": flat, "dst_layers": host_layers, "page_size": PAGE}
    if is_backup:
        return {"src_ptrs": flat, "dst_ptrs": hosts, "page_size": PAGE}
    targets = [layers[LAYER] for layers, _ in case.planes]
    return {"src_ptrs": hosts, "dst_ptrs": targets, "page_size": PAGE, "layer_id": LAYER}


def _by_address(
    name: str, case: Case, table: Callable[[list[torch.Tensor]], torch.Tensor]
) -> dict[str, Any]:
    """Return the arguments of a kernel that copies by address, without indices."""
    layout, plane_num, is_backup = KERNELS[name]
    arguments: dict[str, Any] = {"item_size": ROW_BYTES}
    for suffix, (layers, host) in zip(
        ["_k", "_v"] if plane_num == 2 else [""], case.planes, strict=True
    ):
        if not is_backup:
            source = host[LAYER] if layout == "layer_first" else host
            arguments |= {f"src{suffix}": source, f"dst{suffix}": layers[LAYER]}
        elif layout == "layer_first":
            host_layers = [host[layer] for layer in range(LAYERS)]
            arguments[f"src{suffix}_layers"] = table(layers)
            arguments[f"dst{suffix}_layers"] = table(host_layers)
        else:
            tables = "src_ptrs" if "mamba" in name else f"src{suffix}_layers"
            arguments |= {tables: table(layers), f"dst{suffix}": host}
    if is_backup:
        arguments["num_layers"] = LAYERS
    if layout != "layer_first":
        arguments["dst_layout_dim" if is_backup else "src_layout_dim"] = ROW_BYTES * LAYERS
        arguments |= {} if is_backup else {"layer_id": LAYER}
    if layout == "page_head":
        arguments |= {"page_size": PAGE, "head_num": HEADS}
    return arguments


def _compiled(
    name: str,
    case: Case,
    pair: tuple[torch.Tensor, torch.Tensor],
    table: Callable[[list[torch.Tensor]], torch.Tensor],
    on_device: Place,
) -> dict[str, Any]:
    """Return the arguments of a kernel that a release compiles."""
    layout, plane_num, is_backup = KERNELS[name]
    layers = [layers for layers, _ in case.planes]
    hosts = [host for _, host in case.planes]
    indices = {"src_indices": pair[0], "dst_indices": pair[1]}
    prefixes = ["k_", "v_"] if plane_num == 2 else [""]
    if "page_unified" in name and not is_backup:
        targets = {
            f"{prefix}cache_dst": plane[LAYER]
            for prefix, plane in zip(prefixes, layers, strict=True)
        }
        return {**targets, "src": hosts[0], **indices, "layer_id": LAYER}
    if "page_unified" in name:
        shape = (2, *hosts[0].shape[1:])
        staging = on_device(torch.zeros(shape, dtype=torch.bfloat16))
        pages = {
            "src_pages": pair[0][::PAGE] // PAGE,
            "dst_pages": pair[1][::PAGE] // PAGE,
        }
        tables = {
            f"{prefix}ptr_src": table(plane) for prefix, plane in zip(prefixes, layers, strict=True)
        }
        return {**tables, **pages, "staging": staging, "dst": hosts[0]}
    if "staged" in name:
        suffixes = ["_k", "_v"] if plane_num == 2 else [""]
        arguments: dict[str, Any] = {**indices, "page_size": PAGE}
        for prefix, suffix, plane, host in zip(prefixes, suffixes, layers, hosts, strict=True):
            staging = on_device(torch.zeros((8, LAYERS, HEADS, WIDTH), dtype=torch.bfloat16))
            arguments |= {
                f"{prefix}ptr_src": table(plane),
                f"staging{suffix}": staging,
                f"dst{suffix}": host,
            }
        return arguments
    swapped = {"indices_src": pair[0], "indices_dst": pair[1]}
    if not is_backup:
        arguments = {**swapped, "element_dim": HEADS * WIDTH}
        for prefix, plane, host in zip(prefixes, layers, hosts, strict=True):
            source = host[LAYER] if layout == "layer_first" else host.transpose(0, 1)[LAYER]
            arguments |= {f"{prefix}cache_src": source, f"{prefix}cache_dst": plane[LAYER]}
        return arguments
    arguments = {**swapped, "element_size": ROW_BYTES}
    stride_prefix = "kv_" if plane_num == 2 else ""
    host_stride = ROW_BYTES if layout == "layer_first" else ROW_BYTES * LAYERS
    arguments[f"{stride_prefix}cache_src_stride_bytes"] = ROW_BYTES
    arguments[f"{stride_prefix}cache_dst_stride_bytes"] = host_stride
    for prefix, plane, host in zip(prefixes, layers, hosts, strict=True):
        by_layer = host if layout == "layer_first" else host.transpose(0, 1)
        host_layers = [by_layer[layer] for layer in range(LAYERS)]
        arguments |= {f"{prefix}ptr_src": table(plane), f"{prefix}ptr_dst": table(host_layers)}
    return arguments
