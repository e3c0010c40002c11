"""Latent attention with the packed rows of sparse attention, without its index keys."""

from typing import TYPE_CHECKING

from traces.targets.native.family import FamilyEntry, shared_models

if TYPE_CHECKING:
    from assembler.device.base import Device
    from assembler.device_pools.base import TokenKVPool
    from traces.targets.native.device_side import (
        NativeDevicePools,
        NativeGeometry,
        TokenPoolArguments,
    )


QUANT_BLOCK_SIZE = 128


def packed_width(geometry: "NativeGeometry") -> int:
    """Return the elements of a latent row: in float8 its scales and its rope part lie in it too."""
    # Imported late: listing scenarios needs no torch.
    from assembler.device_pools.nsa import nsa_kv_cache_dim

    attention = geometry.model.attention
    return nsa_kv_cache_dim(
        kv_lora_rank=attention.kv_lora_rank,
        qk_rope_head_dim=attention.qk_rope_head_dim,
        dtype=geometry.dtype,
        quant_block_size=QUANT_BLOCK_SIZE,
    )


def make_pool(geometry: "NativeGeometry", shared: "TokenPoolArguments") -> "TokenKVPool":
    """Return the pool of some layers; rows are packed in float8 only."""
    import torch

    from assembler.device_pools.mla import MLATokenToKVPool

    attention = geometry.model.attention
    is_packed = shared["dtype"] == torch.float8_e4m3fn
    return MLATokenToKVPool(
        kv_lora_rank=attention.kv_lora_rank,
        qk_rope_head_dim=attention.qk_rope_head_dim,
        use_nsa=is_packed,
        override_kv_cache_dim=packed_width(geometry) if is_packed else None,
        **shared,
    )


def make_pools(geometry: "NativeGeometry", device: "Device") -> "NativeDevicePools":
    """Return the device side of a scenario."""
    # Imported late: listing scenarios needs no torch.
    from traces.targets.native.device_side import make_token_side

    return make_token_side(geometry, make_pool, device=device)


ENTRY = FamilyEntry(models=shared_models("dsv32_kv_fp8"), make_pools=make_pools)
