"""Int8 keys and values, with a third plane on the same slots."""

from typing import TYPE_CHECKING

from traces.targets.common.models import ModelShape, mha_rows
from traces.targets.native.family import FamilyEntry, always_page_locked, blind_spots

if TYPE_CHECKING:
    from assembler.device.base import Device
    from assembler.device_pools.base import TokenKVPool
    from traces.targets.native.device_side import (
        NativeDevicePools,
        NativeGeometry,
        TokenPoolArguments,
    )


def make_pool(geometry: "NativeGeometry", shared: "TokenPoolArguments") -> "TokenKVPool":
    """Return the device pool; 8 heads of 128 over the ranks."""
    # Imported late: listing scenarios needs no torch.
    from assembler.device_pools.int8 import MHATokenToKVPoolInt8

    attention = geometry.model.attention
    return MHATokenToKVPoolInt8(
        head_num=geometry.kv_heads,
        head_dim=attention.head_dim,
        v_head_dim=attention.v_head_dim,
        **shared,
    )


def make_pools(geometry: "NativeGeometry", device: "Device") -> "NativeDevicePools":
    """Return the device side of a scenario."""
    # Imported late: listing scenarios needs no torch.
    from traces.targets.native.device_side import make_token_side

    return make_token_side(geometry, make_pool, device=device)


ENTRY = FamilyEntry(
    models={
        "llama3_int8": ModelShape(
            attention=mha_rows(8, 128, 128, "int8"),
            full_layers=(0, 1),
        ),
    },
    make_pools=make_pools,
    make_draft_pool=make_pool,
    rows=(
        *(
            ("build_kv_only_stack", *axes)
            for axes in (
                ("page_first", "kernel", "write_back", 16, "gb", "file", "tp8cp2pp3", False),
                ("layer_first", "kernel", "write_through", 1, "ratio", None, "tp1", True),
                ("page_first_direct", "direct", "write_back", 64, "ratio", "file", "tp8pp2", True),
            )
        ),
        (
            *("attach_hybrid_pool_to_unified_cache", "layer_first", "direct"),
            *("write_through_selective", 64, "gb", None, "tp8cp2pp3", False),
        ),
        (
            *("HiRadixCache.init_hicache", "page_first", "kernel"),
            *("write_through", 16, "ratio", "file", "tp8cp2pp3", True),
        ),
    ),
    known_findings={
        **always_page_locked("MHATokenToKVPoolInt8Host"),
        **blind_spots(
            "MHATokenToKVPoolInt8",
            "head_dim",
            "v_head_dim",
            reason="one model has such rows; their number varies with the ranks",
        ),
    },
)
