"""Linear-attention hybrids: a few layers of attention, and states of each request."""

from typing import TYPE_CHECKING

from traces.targets.native.families import mha, mla
from traces.targets.native.family import FamilyEntry, always_page_locked, shared_models

if TYPE_CHECKING:
    from assembler.device.base import Device
    from traces.targets.native.device_side import NativeDevicePools, NativeGeometry

STATE_SLOTS = 5


def make_pools(geometry: "NativeGeometry", device: "Device") -> "NativeDevicePools":
    """Build the pools of attention and of states; a request has one slot of states."""
    # Imported late: listing scenarios needs no torch.
    import torch

    from assembler.allocators.base import MambaSlotAllocator
    from assembler.allocators.requests import HybridReqToTokenPool
    from assembler.device_pools.linear import HybridLinearKVPool
    from assembler.device_pools.mamba import MambaPool
    from traces.targets.native.device_side import (
        NativeDevicePools,
        consecutive_layers,
        make_allocator,
        make_token_pool,
    )

    model = geometry.model
    state_layers = geometry.global_ids(model.state_layers)
    pool = HybridLinearKVPool(
        full_kv_pool=make_token_pool(
            geometry,
            mha.make_pool if model.attention.kv_heads else mla.make_pool,
            layers=consecutive_layers(len(model.full_layers), start_layer=0),
            device=device,
        ),
        full_attention_layer_ids=geometry.global_ids(model.full_layers),
        start_layer=geometry.start_layer,
        end_layer=geometry.end_layer,
    )
    mamba_pool = MambaPool(
        size=STATE_SLOTS,
        conv_shapes=model.conv_shapes,
        temporal_shape=model.temporal_shape,
        conv_dtype=torch.bfloat16,
        temporal_dtype=torch.float32,
        mamba_layer_ids=state_layers,
        device=device,
    )
    requests = HybridReqToTokenPool(
        size=STATE_SLOTS,
        mamba_pool=mamba_pool,
        mamba_allocator=MambaSlotAllocator(size=STATE_SLOTS, pool=mamba_pool, device=device),
        mamba_layer_ids=state_layers,
        start_layer=geometry.start_layer,
        device=device,
    )
    allocator = make_allocator(geometry, pool, device=device)
    return NativeDevicePools(kvcache=pool, allocator=allocator, req_to_token_pool=requests)


ENTRY = FamilyEntry(
    models=shared_models("qwen3_next", "nemotron_h", "kimi_linear", "falcon_h1"),
    make_pools=make_pools,
    is_sharded=True,
    known_findings={
        **always_page_locked("MambaPoolHost"),
    },
)
