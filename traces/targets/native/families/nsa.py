"""Sparse attention (NSA, later DSA): latent rows, and index keys in pages of 64."""

from typing import TYPE_CHECKING

from traces.targets.native.families import packed_mla
from traces.targets.native.family import FamilyEntry, always_page_locked, blind_spots, shared_models

if TYPE_CHECKING:
    from assembler.device.base import Device
    from assembler.device_pools.base import TokenKVPool
    from traces.targets.native.device_side import (
        NativeDevicePools,
        NativeGeometry,
        TokenPoolArguments,
    )


def make_pool(geometry: "NativeGeometry", shared: "TokenPoolArguments") -> "TokenKVPool":
    """Return the pool of some layers, with their index keys."""
    # Imported late: listing scenarios needs no torch.
    from assembler.device_pools.nsa import NSATokenToKVPool

    attention = geometry.model.attention
    return NSATokenToKVPool(
        kv_lora_rank=attention.kv_lora_rank,
        qk_rope_head_dim=attention.qk_rope_head_dim,
        kv_cache_dim=packed_mla.packed_width(geometry),
        index_head_dim=geometry.model.index_head_dim,
        index_buf_size=geometry.size,
        **shared,
    )


def make_pools(geometry: "NativeGeometry", device: "Device") -> "NativeDevicePools":
    """Return the device side of a scenario."""
    # Imported late: listing scenarios needs no torch.
    from traces.targets.native.device_side import make_token_side

    return make_token_side(geometry, make_pool, device=device)


ENTRY = FamilyEntry(
    models=shared_models("dsv32_fp8", "dsv32_bf16"),
    make_pools=make_pools,
    # The draft's layer has no index keys, but rows of the same width.
    make_draft_pool=packed_mla.make_pool,
    page_sizes=(64,),
    known_findings={
        **always_page_locked("NSAIndexerPoolHost"),
        **blind_spots(
            "NSATokenToKVPool",
            "index_buf_size",
            reason="the scenario gives it the pool's size, as servers do",
        ),
        **blind_spots(
            "NSATokenToKVPool",
            "size",
            reason="the scenario gives it the index buffer's size, as servers do",
        ),
        **blind_spots(
            "NSATokenToKVPool",
            "page_size",
            reason="index keys come in pages of 64, the width of the rotary part",
        ),
        **blind_spots(
            "NSATokenToKVPool",
            "qk_rope_head_dim",
            reason="its width is 64, the only page size of index keys",
        ),
    },
)
