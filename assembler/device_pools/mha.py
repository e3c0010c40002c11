"""Multi-head and grouped-query attention: keys and values apart."""

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.device_pools.base import KVCache, unknown_plane
from assembler.geometry import PlaneGeometry, PoolGeometry
from assembler.names import PoolName


class MHATokenToKVPool(KVCache):
    """Keys and values of every token and layer.

    Attributes:
        head_num: KV heads on this rank.
        head_dim: elements of a key head.
        v_head_dim: elements of a value head.
        k_buffer: one tensor a layer, ``(size + page_size, head_num, head_dim) store_dtype``.
        v_buffer: one tensor a layer, ``(size + page_size, head_num, v_head_dim) store_dtype``.

    Raises:
        PoolError: ``end_layer - start_layer + 1`` is not ``layer_num``.

    Source: sglang 0.5.12 ``memory_pool.py:789-940``.
    """

    def __init__(
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
        super().__init__(
            size=size,
            page_size=page_size,
            dtype=dtype,
            layer_num=layer_num,
            device=device,
            start_layer=start_layer,
            end_layer=end_layer,
        )
        self._check_layer_span()
        self.head_num = head_num
        self.head_dim = head_dim
        self.v_head_dim = v_head_dim
        self.k_buffer = self._layers(row_shape=(head_num, head_dim))
        self.v_buffer = self._layers(row_shape=(head_num, v_head_dim))

    @override
    def declared_geometry(self) -> tuple[PoolGeometry, ...]:
        k_shape, v_shape = (self.head_num, self.head_dim), (self.head_num, self.v_head_dim)
        planes = (
            PlaneGeometry(name="k", row_shape=k_shape, dtype=self.store_dtype),
            PlaneGeometry(name="v", row_shape=v_shape, dtype=self.store_dtype),
        )
        return (
            PoolGeometry(
                pool=PoolName.KV, planes=planes, slots_per_row=1, layer_num=self.layer_num
            ),
        )

    @override
    def plane_buffer(self, *, plane: str, layer: int) -> torch.Tensor:
        if plane == "k":
            return self.k_buffer[layer]
        if plane == "v":
            return self.v_buffer[layer]
        raise unknown_plane(self, plane, ("k", "v"))

    @override
    def get_key_buffer(self, layer_id: int) -> torch.Tensor:
        return self._as_computed(self.k_buffer[self._layer_index(layer_id)])

    @override
    def get_value_buffer(self, layer_id: int) -> torch.Tensor:
        return self._as_computed(self.v_buffer[self._layer_index(layer_id)])

    def _layers(self, *, row_shape: tuple[int, ...]) -> list[torch.Tensor]:
        shape = (self.size + self.page_size, *row_shape)
        return [self.device.zeros(shape, self.store_dtype) for _ in range(self.layer_num)]
