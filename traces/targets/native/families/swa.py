"""Sliding-window hybrids: some layers keep all tokens, the others those of a window."""

from typing import TYPE_CHECKING

from traces.targets.native.family import FamilyEntry, blind_spots, shared_models

if TYPE_CHECKING:
    from assembler.device.base import Device
    from traces.targets.native.device_side import NativeDevicePools, NativeGeometry

SWA_SHARE = 0.5


def make_pools(geometry: "NativeGeometry", device: "Device") -> "NativeDevicePools":
    """Build full and windowed sub-pools; the windowed one has a share of the slots, whole pages."""
    # Imported late: listing scenarios needs no torch.
    from assembler.allocators.swa import SWATokenToKVPoolAllocator
    from assembler.device_pools.swa import SWAKVPool
    from traces.targets.native.device_side import NativeDevicePools

    attention, page_size = geometry.model.attention, geometry.page_size
    size_swa = int(geometry.size * SWA_SHARE) // page_size * page_size
    pool = SWAKVPool(
        size=geometry.size,
        size_swa=size_swa,
        page_size=page_size,
        dtype=geometry.dtype,
        head_num=geometry.kv_heads,
        head_dim=attention.head_dim,
        v_head_dim=attention.v_head_dim,
        swa_head_num=geometry.kv_heads,
        swa_head_dim=attention.head_dim,
        swa_v_head_dim=attention.v_head_dim,
        swa_attention_layer_ids=geometry.global_ids(geometry.model.swa_layers),
        full_attention_layer_ids=geometry.global_ids(geometry.model.full_layers),
        device=device,
    )
    allocator = SWATokenToKVPoolAllocator(
        size=geometry.size,
        size_swa=size_swa,
        page_size=page_size,
        dtype=geometry.dtype,
        device=device,
        kvcache=pool,
    )
    return NativeDevicePools(kvcache=pool, allocator=allocator)


ENTRY = FamilyEntry(
    models=shared_models("gpt_oss", "gemma3"),
    make_pools=make_pools,
    known_findings={
        **blind_spots(
            "SWAKVPool",
            "head_num",
            "head_dim",
            "v_head_dim",
            "swa_head_num",
            "swa_head_dim",
            "swa_v_head_dim",
            reason="gpt-oss and Gemma-3 publish the same heads for both kinds of layer",
        ),
    },
)
