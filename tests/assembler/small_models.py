"""Device sides of small models: 3 layers or so, pages of 4 tokens, 64 slots."""

import torch

from assembler.allocators.base import MambaSlotAllocator, PagedTokenToKVPoolAllocator
from assembler.allocators.requests import HybridReqToTokenPool
from assembler.allocators.swa import SWATokenToKVPoolAllocator
from assembler.device_pools.linear import HybridLinearKVPool
from assembler.device_pools.mamba import MambaPool
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.device_pools.nsa import NSATokenToKVPool
from assembler.device_pools.swa import SWAKVPool
from assembler.params import CacheInitParams

SIZE, PAGE = 64, 4


def params_of(kvcache, allocator=None, req_to_token_pool=None, **settings):
    if allocator is None:
        allocator = PagedTokenToKVPoolAllocator(
            size=SIZE, page_size=PAGE, dtype=kvcache.dtype, device=kvcache.device, kvcache=kvcache
        )
    return CacheInitParams(
        disable=False,
        req_to_token_pool=req_to_token_pool,
        token_to_kv_pool_allocator=allocator,
        page_size=PAGE,
        **settings,
    )


def mha_pool(device, *, start_layer=0, layer_num=3, size=SIZE, head_dim=8):
    return MHATokenToKVPool(
        size=size,
        page_size=PAGE,
        dtype=torch.bfloat16,
        head_num=2,
        head_dim=head_dim,
        v_head_dim=8,
        layer_num=layer_num,
        device=device,
        start_layer=start_layer,
        end_layer=start_layer + layer_num - 1,
    )


def mla_pool(device, *, dtype=torch.bfloat16, override=None):
    return MLATokenToKVPool(
        size=SIZE,
        page_size=PAGE,
        dtype=dtype,
        kv_lora_rank=512,
        qk_rope_head_dim=64,
        layer_num=3,
        device=device,
        start_layer=0,
        end_layer=2,
        use_nsa=override is not None,
        override_kv_cache_dim=override,
    )


def nsa_pool(device, *, fp8=True, start_layer=0):
    return NSATokenToKVPool(
        size=SIZE,
        page_size=PAGE,
        dtype=torch.float8_e4m3fn if fp8 else torch.bfloat16,
        kv_lora_rank=512,
        qk_rope_head_dim=64,
        layer_num=3,
        device=device,
        start_layer=start_layer,
        end_layer=start_layer + 2,
        index_head_dim=128,
        kv_cache_dim=656 if fp8 else 576,
        index_buf_size=SIZE,
    )


def swa_params(device, *, size_swa=SIZE, **settings):
    kvcache = SWAKVPool(
        size=SIZE,
        size_swa=size_swa,
        page_size=PAGE,
        dtype=torch.bfloat16,
        head_num=2,
        head_dim=8,
        v_head_dim=8,
        swa_head_num=2,
        swa_head_dim=4,
        swa_v_head_dim=4,
        swa_attention_layer_ids=[0, 2, 4],
        full_attention_layer_ids=[1, 3],
        device=device,
    )
    allocator = SWATokenToKVPoolAllocator(
        size=SIZE,
        size_swa=size_swa,
        page_size=PAGE,
        dtype=torch.bfloat16,
        device=device,
        kvcache=kvcache,
    )
    return params_of(kvcache, allocator, **settings)


def mamba_params(device, *, start_layer=0, state_num=8, full_pool=None, **settings):
    """Attention in layers 1 and 4 of the stage, states in 0, 3 and 6, nothing in the others."""
    full = [start_layer + 1, start_layer + 4]
    states = [start_layer, start_layer + 3, start_layer + 6]
    full_pool = full_pool or mha_pool(device, layer_num=2)
    kvcache = HybridLinearKVPool(
        full_kv_pool=full_pool,
        full_attention_layer_ids=full if full_pool.layer_num == 2 else [*full, start_layer + 6],
        start_layer=start_layer,
        end_layer=start_layer + 6,
    )
    mamba_pool = MambaPool(
        size=state_num,
        conv_shapes=((8, 3),),
        temporal_shape=(2, 4),
        conv_dtype=torch.bfloat16,
        temporal_dtype=torch.float32,
        mamba_layer_ids=states,
        device=device,
    )
    requests = HybridReqToTokenPool(
        size=state_num,
        mamba_pool=mamba_pool,
        mamba_allocator=MambaSlotAllocator(size=state_num, pool=mamba_pool, device=device),
        mamba_layer_ids=states,
        start_layer=start_layer,
        device=device,
    )
    return params_of(kvcache, req_to_token_pool=requests, **settings)


def buffers_of(pool):
    """Return every buffer of a device pool as (row, bytes), by plane and layer."""
    return {
        (plane.name, layer): buffer
        for declared in pool.mirrored()
        for plane in declared.geometry.planes
        for layer, buffer in enumerate(declared.plane_buffers(plane.name))
    }


def rows_as_bytes(buffer):
    return buffer.contiguous().view(torch.uint8).view(buffer.shape[0], -1)


def fill(pool, value):
    """Write bytes into a device pool that differ by row, plane and layer."""
    for number, buffer in enumerate(buffers_of(pool).values()):
        flat = buffer.view(torch.uint8).view(-1)
        flat.copy_(((torch.arange(flat.numel()) + 31 * number + value) % 127).to(torch.uint8))


def poison(pool, value=0xEE):
    for buffer in buffers_of(pool).values():
        buffer.view(torch.uint8).fill_(value)


def snapshot(pool):
    return {key: rows_as_bytes(buffer).clone() for key, buffer in buffers_of(pool).items()}
