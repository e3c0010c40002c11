"""Multi-head and grouped-query attention: keys and values apart."""

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.device_pools.base import TokenKVPool, refuse_row_width
from assembler.geometry import PlaneGeometry, PoolLayers, PoolSlots
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.memory import HostPoolArguments
from assembler.host_pools.mha import MHATokenToKVPoolHost


class MHATokenToKVPool(TokenKVPool):
    """Keys and values of every token and layer.

    Attributes:
        head_num: KV heads on this rank.
        head_dim: elements of a key head.
        v_head_dim: elements of a value head.
        k_buffer: one tensor a layer, ``(size + page_size, head_num, head_dim) store_dtype``.
        v_buffer: one tensor a layer, ``(size + page_size, head_num, v_head_dim) store_dtype``.

    Source: sglang 0.5.12 ``memory_pool.py:789-940``.
    """

    def __init__(  # noqa: PLR0913 - published signature
        self,
        *,
        size: int,
        page_size: int,
        dtype: torch.dtype,
        head_num: int,
        head_dim: int,
        v_head_dim: int,
        layer_num: int,
        device: Device,
        start_layer: int,
        end_layer: int,
    ) -> None:
        layers = PoolLayers(layer_num=layer_num, start_layer=start_layer, end_layer=end_layer)
        super().__init__(
            PoolSlots(size=size, page_size=page_size, dtype=dtype, layers=layers, device=device)
        )
        self.head_num = head_num
        self.head_dim = head_dim
        self.v_head_dim = v_head_dim
        self._allocate()

    def _allocate(self) -> None:
        """Make the buffers of every plane; the fields of the rows are set."""
        self.k_buffer = self._layers((self.head_num, self.head_dim), self.store_dtype)
        self.v_buffer = self._layers((self.head_num, self.v_head_dim), self.store_dtype)

    @override
    def _planes(self) -> dict[PlaneGeometry, list[torch.Tensor]]:
        k_shape, v_shape = (self.head_num, self.head_dim), (self.head_num, self.v_head_dim)
        return {
            PlaneGeometry(name="k", row_shape=k_shape, dtype=self.store_dtype): self.k_buffer,
            PlaneGeometry(name="v", row_shape=v_shape, dtype=self.store_dtype): self.v_buffer,
        }

    @override
    def make_host_pool(
        self, arguments: HostPoolArguments, *, override_kv_cache_dim: int | None
    ) -> HostKVCache:
        refuse_row_width(override_kv_cache_dim)
        return MHATokenToKVPoolHost(device_pool=self, **arguments)

    @override
    def get_key_buffer(self, layer_id: int) -> torch.Tensor:
        return self._as_computed(self.k_buffer[self._layer_index(layer_id)])

    @override
    def get_value_buffer(self, layer_id: int) -> torch.Tensor:
        return self._as_computed(self.v_buffer[self._layer_index(layer_id)])
