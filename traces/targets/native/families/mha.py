"""Multi-head and grouped-query attention: keys and values."""

from typing import TYPE_CHECKING

from traces.targets.common.scenario import LAYOUTS
from traces.targets.native.family import FamilyEntry, always_page_locked, shared_models

if TYPE_CHECKING:
    from assembler.device.base import Device
    from assembler.device_pools.base import TokenKVPool
    from traces.targets.native.device_side import (
        NativeDevicePools,
        NativeGeometry,
        TokenPoolArguments,
    )


def make_pool(geometry: "NativeGeometry", shared: "TokenPoolArguments") -> "TokenKVPool":
    """Return the pool of some layers, with the KV heads of one rank."""
    # Imported late: listing scenarios needs no torch.
    from assembler.device_pools.mha import MHATokenToKVPool

    attention = geometry.model.attention
    return MHATokenToKVPool(
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
    models=shared_models("llama3_8b", "qwen3_8b", "dsv3_mha"),
    make_pools=make_pools,
    make_draft_pool=make_pool,
    layouts=LAYOUTS,
    known_findings={
        **always_page_locked("MHATokenToKVPoolHost"),
    },
)
