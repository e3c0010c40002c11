"""Multi-head latent attention: one compressed row for keys and values together."""

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.device_pools.base import TokenKVPool
from assembler.geometry import PlaneGeometry, PoolLayers, PoolSlots
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.memory import HostPoolArguments
from assembler.host_pools.mla import MLATokenToKVPoolHost


class MLATokenToKVPool(TokenKVPool):
    """Latent and rotary part of every token and layer, in one row.

    ``override_kv_cache_dim`` counts only for sparse attention in float8, where scales travel in the
    row; everywhere else the width is ``kv_lora_rank + qk_rope_head_dim``.

    Attributes:
        kv_lora_rank: elements of the latent part.
        qk_rope_head_dim: elements of the rotary part.
        kv_cache_dim: elements of a row.
        kv_buffer: one tensor a layer, ``(size + page_size, 1, kv_cache_dim) store_dtype``.

    Source: sglang 0.5.12 ``memory_pool.py:1618-1690``.
    """

    use_mla = True

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
        use_nsa: bool,
        override_kv_cache_dim: int | None,
    ) -> None:
        layers = PoolLayers(layer_num=layer_num, start_layer=start_layer, end_layer=end_layer)
        super().__init__(
            PoolSlots(size=size, page_size=page_size, dtype=dtype, layers=layers, device=device)
        )
        self.kv_lora_rank = kv_lora_rank
        self.qk_rope_head_dim = qk_rope_head_dim
        self.kv_cache_dim = kv_lora_rank + qk_rope_head_dim
        scaled_fp8 = use_nsa and dtype == torch.float8_e4m3fn
        if scaled_fp8 and override_kv_cache_dim is not None:
            self.kv_cache_dim = override_kv_cache_dim
        self.kv_buffer = self._layers((1, self.kv_cache_dim), self.store_dtype)

    @property
    @override
    def host_row_width(self) -> int | None:
        return self.kv_cache_dim

    @override
    def _planes(self) -> dict[PlaneGeometry, list[torch.Tensor]]:
        row_shape = (1, self.kv_cache_dim)
        plane = PlaneGeometry(name="kv", row_shape=row_shape, dtype=self.store_dtype)
        return {plane: self.kv_buffer}

    @override
    def make_host_pool(
        self, arguments: HostPoolArguments, *, override_kv_cache_dim: int | None
    ) -> HostKVCache:
        return MLATokenToKVPoolHost(
            device_pool=self, override_kv_cache_dim=override_kv_cache_dim, **arguments
        )

    @override
    def get_key_buffer(self, layer_id: int) -> torch.Tensor:
        return self._as_computed(self.kv_buffer[self._layer_index(layer_id)])

    @override
    def get_value_buffer(self, layer_id: int) -> torch.Tensor:
        """Return the latent part of the rows; otherwise as the base class says."""
        # A strided view: kernels that need contiguous rows must take the key buffer.
        return self.get_key_buffer(layer_id)[..., : self.kv_lora_rank]
