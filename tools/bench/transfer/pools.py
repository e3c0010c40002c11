"""The pools whose transfers are measured, with the dimensions of published models."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from assembler.device.base import Device
from assembler.device_pools.mamba import MambaPool
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.device_pools.nsa import NSATokenToKVPool
from assembler.host_pools.base import DevicePool, HostKVCache
from assembler.host_pools.indexer import NSAIndexerPoolHost
from assembler.host_pools.memory import HostPoolArguments
from assembler.names import HostLayout, IoBackend

PAGE_SIZE = 64
_LATENT_LAYERS = 61
_HOST_RATIO = 1.25

MakeHost: TypeAlias = Callable[[Any, HostPoolArguments], HostKVCache]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPool:
    """A device pool and its host pools.

    Attributes:
        title: dimensions, for people.
        page_size: slots in a page.
        tokens: tokens of a page; a state stands for many tokens, so fewer of them are moved.
        make_device: builds the device pool with that many slots.
        make_host: builds a host pool.
        choices: backends and layouts.
        has_token_rows: whether a slot is a row of every layer.
    """

    title: str
    page_size: int
    tokens: int
    make_device: Callable[[int, Device], DevicePool]
    make_host: MakeHost
    choices: tuple[tuple[IoBackend, HostLayout], ...]
    has_token_rows: bool = True


def moved_pages(pool: MeasuredPool, pages: int) -> int:
    """Return how many pages of a pool stand for a number of pages of 64 tokens, at least one."""
    return max(1, pages * PAGE_SIZE // pool.tokens)


def host_arguments(pool: MeasuredPool, layout: HostLayout, device: Device) -> HostPoolArguments:
    """Return the arguments of a host pool that is a quarter larger than the device pool."""
    return HostPoolArguments(
        host_to_device_ratio=_HOST_RATIO,
        host_size=0,
        page_size=pool.page_size,
        layout=layout.value,
        pin_memory=True,
        device=device,
        allocator_type=None,
    )


def _mha(size: int, device: Device) -> DevicePool:
    return MHATokenToKVPool(
        size=size,
        page_size=PAGE_SIZE,
        dtype=torch.bfloat16,
        head_num=8,
        head_dim=128,
        v_head_dim=128,
        layer_num=32,
        device=device,
        start_layer=0,
        end_layer=31,
    )


def _mla(size: int, device: Device) -> DevicePool:
    return MLATokenToKVPool(
        size=size,
        page_size=PAGE_SIZE,
        dtype=torch.bfloat16,
        kv_lora_rank=512,
        qk_rope_head_dim=64,
        layer_num=_LATENT_LAYERS,
        device=device,
        start_layer=0,
        end_layer=_LATENT_LAYERS - 1,
        use_nsa=False,
        override_kv_cache_dim=None,
    )


def _sparse(size: int, device: Device) -> NSATokenToKVPool:
    return NSATokenToKVPool(
        size=size,
        page_size=PAGE_SIZE,
        dtype=torch.float8_e4m3fn,
        kv_lora_rank=512,
        qk_rope_head_dim=64,
        layer_num=_LATENT_LAYERS,
        device=device,
        start_layer=0,
        end_layer=_LATENT_LAYERS - 1,
        index_head_dim=128,
        kv_cache_dim=656,
        index_buf_size=size,
    )


def _states(size: int, device: Device) -> DevicePool:
    return MambaPool(
        size=size,
        conv_shapes=((8192, 3),),
        temporal_shape=(32, 128, 128),
        conv_dtype=torch.bfloat16,
        temporal_dtype=torch.float32,
        mamba_layer_ids=list(range(36)),
        device=device,
    )


def _mirror(pool: DevicePool, arguments: HostPoolArguments) -> HostKVCache:
    return pool.make_host_pool(arguments, override_kv_cache_dim=None)


def _mirror_sparse(pool: NSATokenToKVPool, arguments: HostPoolArguments) -> HostKVCache:
    return pool.make_host_pool(arguments, override_kv_cache_dim=pool.kv_cache_dim)


def _mirror_index(pool: NSATokenToKVPool, arguments: HostPoolArguments) -> HostKVCache:
    return NSAIndexerPoolHost(
        device_pool=pool,
        anchor_host=_mirror_sparse(pool, arguments),
        layout=arguments["layout"],
        pin_memory=arguments["pin_memory"],
        device=arguments["device"],
        allocator_type=None,
    )


_CHOICES = (
    (IoBackend.KERNEL, HostLayout.LAYER_FIRST),
    (IoBackend.KERNEL, HostLayout.PAGE_FIRST),
    (IoBackend.DIRECT, HostLayout.LAYER_FIRST),
    (IoBackend.DIRECT, HostLayout.PAGE_FIRST_DIRECT),
)

POOLS: Mapping[str, MeasuredPool] = {
    "mha": MeasuredPool(
        title="MHA, 8 heads of 128, bf16, 32 layers",
        page_size=PAGE_SIZE,
        tokens=PAGE_SIZE,
        make_device=_mha,
        make_host=_mirror,
        choices=(*_CHOICES, (IoBackend.KERNEL, HostLayout.PAGE_HEAD)),
    ),
    "mla": MeasuredPool(
        title="MLA, 576 bf16, 61 layers",
        page_size=PAGE_SIZE,
        tokens=PAGE_SIZE,
        make_device=_mla,
        make_host=_mirror,
        choices=_CHOICES,
    ),
    "dsa": MeasuredPool(
        title="DSA, 656 bytes, 61 layers",
        page_size=PAGE_SIZE,
        tokens=PAGE_SIZE,
        make_device=_sparse,
        make_host=_mirror_sparse,
        choices=_CHOICES,
    ),
    "indexer": MeasuredPool(
        title="DSA index pages of 8448 bytes, 61 layers",
        page_size=PAGE_SIZE,
        tokens=PAGE_SIZE,
        make_device=_sparse,
        make_host=_mirror_index,
        choices=_CHOICES,
        has_token_rows=False,
    ),
    "mamba": MeasuredPool(
        title="Mamba states of 2.1 MB, 36 layers",
        page_size=1,
        tokens=32 * PAGE_SIZE,
        make_device=_states,
        make_host=_mirror,
        choices=_CHOICES,
        has_token_rows=False,
    ),
}
