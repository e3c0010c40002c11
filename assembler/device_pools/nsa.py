"""Sparse attention (NSA, later DSA): latent rows with scales, and an index of quantised keys."""

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.errors import PoolError
from assembler.geometry import PlaneGeometry
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.indexer import (
    QUANT_BLOCK_SIZE,
    SCALE_BYTES,
    NSAIndexerPoolHost,
    index_row_bytes,
)
from assembler.host_pools.memory import HostPoolArguments
from assembler.host_pools.mirrored import MirroredPool
from assembler.names import PoolName


def nsa_kv_cache_dim(
    *, kv_lora_rank: int, qk_rope_head_dim: int, dtype: torch.dtype, quant_block_size: int
) -> int:
    """Return the elements of a row, which for scaled float8 are bytes.

    A scaled float8 row holds the latent part in float8, one float32 scale for each
    ``quant_block_size`` of its elements, and the rotary part in bfloat16. For the DeepSeek
    dimensions: ``512 * 1 + 512 / 128 * 4 + 64 * 2 = 512 + 16 + 128``.

    Raises:
        PoolError: the latent part is not whole quantisation blocks.

    Source: sglang 0.5.12 ``model_runner_kv_cache_mixin.py:139-184``.
    """
    if dtype != torch.float8_e4m3fn:
        return kv_lora_rank + qk_rope_head_dim
    if kv_lora_rank % quant_block_size:
        raise PoolError(
            "NSA row",
            "kv_lora_rank must be whole quantisation blocks",
            expected=f"a multiple of {quant_block_size}",
            got=kv_lora_rank,
        )
    scales_bytes = kv_lora_rank // quant_block_size * SCALE_BYTES
    return kv_lora_rank + scales_bytes + qk_rope_head_dim * torch.bfloat16.itemsize


class NSATokenToKVPool(MLATokenToKVPool):
    """Latent rows and index pages of every layer.

    Attributes:
        index_head_dim: elements of an index key.
        index_k_with_scale_buffer: one tensor a layer,
            ``((index_buf_size + page_size + 1) // page_size, page_size * 132) uint8``.

    Raises:
        PoolError: ``index_head_dim`` is not one quantisation block; ``kv_cache_dim`` is a width
            that ``dtype`` cannot have.

    Source: sglang 0.5.12 ``memory_pool.py:1981-2074``. The page size is not bound to 64 here: that
    is a limit of the attention kernels, which are not part of this package.
    """

    def __init__(  # noqa: PLR0913 - published signature
        self,
        *,
        size: int,
        page_size: int,
        dtype: torch.dtype,
        kv_lora_rank: int,
        qk_rope_head_dim: int,
        layer_num: int,
        device: Device,
        start_layer: int,
        end_layer: int,
        index_head_dim: int,
        kv_cache_dim: int,
        index_buf_size: int,
    ) -> None:
        plain_dim = kv_lora_rank + qk_rope_head_dim
        super().__init__(
            size=size,
            page_size=page_size,
            dtype=dtype,
            kv_lora_rank=kv_lora_rank,
            qk_rope_head_dim=qk_rope_head_dim,
            layer_num=layer_num,
            device=device,
            start_layer=start_layer,
            end_layer=end_layer,
            use_nsa=True,
            override_kv_cache_dim=kv_cache_dim if kv_cache_dim != plain_dim else None,
        )
        _check_index_head_dim(index_head_dim)
        if self.kv_cache_dim != kv_cache_dim:
            raise PoolError(
                "NSATokenToKVPool",
                f"kv_cache_dim must fit {dtype}",
                expected=self.kv_cache_dim,
                got=kv_cache_dim,
            )
        self.index_head_dim = index_head_dim
        # Row 0 is the padding page, as in the rows of tokens.
        page_num = (index_buf_size + page_size + 1) // page_size
        shape = (page_num, index_row_bytes(page_size=page_size, index_head_dim=index_head_dim))
        self.index_k_with_scale_buffer = [
            device.zeros(shape, torch.uint8) for _ in range(layer_num)
        ]

    @override
    def mirrored(self) -> tuple[MirroredPool, ...]:
        index = self._mirrored(
            PoolName.INDEXER,
            planes=tuple(self._sidecar_planes()),
            slots_per_row=self.page_size,
            read_layer=self.get_index_k_with_scale_buffer,
            make_sidecar_host=self._make_indexer_host,
        )
        return (*super().mirrored(), index)

    @override
    def _sidecar_planes(self) -> dict[PlaneGeometry, list[torch.Tensor]]:
        row_bytes = index_row_bytes(page_size=self.page_size, index_head_dim=self.index_head_dim)
        # Bytes, as a row holds float8 keys and float32 scales. Keys of a page are whole blocks of
        # 128 bytes, so the scales behind them stay aligned for readers that view them as float32.
        plane = PlaneGeometry(name="index_k", row_shape=(row_bytes,), dtype=torch.uint8)
        return {plane: self.index_k_with_scale_buffer}

    def _make_indexer_host(
        self, anchor_host: HostKVCache, arguments: HostPoolArguments
    ) -> HostKVCache:
        return NSAIndexerPoolHost(
            device_pool=self,
            anchor_host=anchor_host,
            layout=arguments["layout"],
            pin_memory=arguments["pin_memory"],
            device=arguments["device"],
            allocator_type=arguments["allocator_type"],
        )

    def get_index_k_with_scale_buffer(self, layer_id: int) -> torch.Tensor:
        """Return the index pages of a global layer, ``(page_num, page_size * 132) uint8``.

        Order: the current stream waits for the layer's load first.
        """
        return self.index_k_with_scale_buffer[self._layer_index(layer_id)]


def _check_index_head_dim(index_head_dim: int) -> None:
    if index_head_dim != QUANT_BLOCK_SIZE:
        raise PoolError(
            "NSATokenToKVPool",
            "index_head_dim must be one quantisation block",
            expected=QUANT_BLOCK_SIZE,
            got=index_head_dim,
        )
