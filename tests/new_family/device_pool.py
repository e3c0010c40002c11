"""Multi-head attention in int8: keys and values, with a scale and a zero point for each head."""

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.device_pools.base import refuse_row_width
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.geometry import PlaneGeometry
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.int8 import MHATokenToKVPoolInt8Host
from assembler.host_pools.memory import HostPoolArguments


class MHATokenToKVPoolInt8(MHATokenToKVPool):
    """Keys and values in int8; two float32 for each token and head turn them back."""

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
            head_num=head_num,
            head_dim=head_dim,
            v_head_dim=v_head_dim,
            layer_num=layer_num,
            device=device,
            start_layer=start_layer,
            end_layer=end_layer,
        )
        self.affine_buffer = self._layers((head_num, 2), torch.float32)

    @override
    def _planes(self) -> dict[PlaneGeometry, list[torch.Tensor]]:
        shape = tuple(self.affine_buffer[0].shape[1:])
        plane = PlaneGeometry(name="affine", row_shape=shape, dtype=torch.float32)
        return super()._planes() | {plane: self.affine_buffer}

    @override
    def make_host_pool(
        self, arguments: HostPoolArguments, *, override_kv_cache_dim: int | None
    ) -> HostKVCache:
        refuse_row_width(override_kv_cache_dim)
        return MHATokenToKVPoolInt8Host(device_pool=self, **arguments)

    def get_affine_buffer(self, layer_id: int) -> torch.Tensor:
        """Return scales and zero points of a global layer, after waiting for its load."""
        return self.affine_buffer[self._layer_index(layer_id)]
