"""Qwen sparse attention: keys and values, and an index key for every four tokens."""

from typing import TYPE_CHECKING

from traces.targets.common.models import ModelShape, mha_rows
from traces.targets.native.families import mha
from traces.targets.native.family import FamilyEntry, always_page_locked, blind_spots

if TYPE_CHECKING:
    from assembler.device.base import Device
    from assembler.device_pools.base import TokenKVPool
    from traces.targets.native.device_side import (
        NativeDevicePools,
        NativeGeometry,
        TokenPoolArguments,
    )

COMPRESS_RATIO = 4


def make_pool(geometry: "NativeGeometry", shared: "TokenPoolArguments") -> "TokenKVPool":
    """Return the device pool; the index has one head on every rank."""
    # Imported late: listing scenarios needs no torch.
    import torch

    from assembler.device_pools.qsa import QSATokenToKVPool

    attention = geometry.model.attention
    return QSATokenToKVPool(
        head_num=geometry.kv_heads,
        head_dim=attention.head_dim,
        v_head_dim=attention.v_head_dim,
        index_head_dim=geometry.model.index_head_dim,
        compress_ratio=COMPRESS_RATIO,
        index_dtype=torch.bfloat16,
        **shared,
    )


def make_pools(geometry: "NativeGeometry", device: "Device") -> "NativeDevicePools":
    """Return the device side of a scenario."""
    # Imported late: listing scenarios needs no torch.
    from traces.targets.native.device_side import make_token_side

    return make_token_side(geometry, make_pool, device=device)


ENTRY = FamilyEntry(
    models={
        "qwen4_qsa": ModelShape(
            attention=mha_rows(2, 256, 256),
            full_layers=(0, 1),
            index_head_dim=128,
        ),
    },
    make_pools=make_pools,
    # The draft's layer has no index keys.
    make_draft_pool=mha.make_pool,
    page_sizes=(16, 64),
    rows=(
        *(
            ("build_shared_anchor_stack", *axes)
            for axes in (
                ("page_first", "kernel", "write_back", 16, "gb", "file", "tp8cp2pp3", False),
                ("page_first_direct", "direct", "write_through", 64, "ratio", None, "tp1", True),
            )
        ),
        (
            *("attach_hybrid_pool_to_unified_cache", "layer_first", "kernel"),
            *("write_through_selective", 64, "gb", None, "tp8cp2pp3", False),
        ),
        (
            *("attach_hybrid_nsa_pool_to_hiradix_cache", "layer_first", "direct"),
            *("write_back", 16, "ratio", "file", "tp8cp2pp3", True),
        ),
        (
            *("HiRadixCache.init_hicache", "page_first", "direct"),
            *("write_through", 16, "gb", "file", "tp8cp2pp3", False),
        ),
    ),
    known_findings={
        **always_page_locked("QSAIndexerPoolHost"),
        **blind_spots(
            "QSATokenToKVPool",
            "dtype",
            "head_dim",
            "v_head_dim",
            "layer_num",
            "index_dtype",
            reason="one model has such rows; another type, width or depth shows in its buffers",
        ),
    },
)
