"""Latent attention: one row for keys and values together."""

from typing import TYPE_CHECKING

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
    """Return the pool of some layers, whose rows are as wide as the model says."""
    # Imported late: listing scenarios needs no torch.
    from assembler.device_pools.mla import MLATokenToKVPool

    attention = geometry.model.attention
    return MLATokenToKVPool(
        kv_lora_rank=attention.kv_lora_rank,
        qk_rope_head_dim=attention.qk_rope_head_dim,
        use_nsa=False,
        override_kv_cache_dim=None,
        **shared,
    )


def make_pools(geometry: "NativeGeometry", device: "Device") -> "NativeDevicePools":
    """Return the device side of a scenario."""
    # Imported late: listing scenarios needs no torch.
    from traces.targets.native.device_side import make_token_side

    return make_token_side(geometry, make_pool, device=device)


ENTRY = FamilyEntry(
    models=shared_models("dsv3"),
    make_pools=make_pools,
    make_draft_pool=make_pool,
    known_findings={
        **always_page_locked("MLATokenToKVPoolHost"),
    },
)
