"""Multi-head attention in MXFP8: float8 keys and values, and a scale for each block of them."""

import torch
from typing_extensions import override

from assembler.device_pools.base import refuse_row_width
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.errors import PoolError
from assembler.geometry import PlaneGeometry
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.memory import HostPoolArguments
from assembler.host_pools.mxfp8 import SCALE_BLOCK_SIZE, MHATokenToKVPoolMXFP8Host


class MHATokenToKVPoolMXFP8(MHATokenToKVPool):
    """Keys and values in e4m3, with one e8m0 scale for 32 elements of a row.

    Attributes:
        k_scale_buffer: one tensor a layer, ``(size + page_size, head_num, head_dim // 32) uint8``.
        v_scale_buffer: the same for values, with ``v_head_dim``.

    Raises:
        PoolError: ``dtype`` is not e4m3; a head is not whole blocks of 32.

    Source: sglang 0.5.23 ``memory_pool.py:3847-3960``, with scales a slot.
    """

    @override
    def _allocate(self) -> None:
        super()._allocate()
        self._check_blocks()
        # Zeros, as for every pool: a byte of 0xFF is not a number in e8m0.
        self.k_scale_buffer = self._layers(
            (self.head_num, self.head_dim // SCALE_BLOCK_SIZE), torch.uint8
        )
        self.v_scale_buffer = self._layers(
            (self.head_num, self.v_head_dim // SCALE_BLOCK_SIZE), torch.uint8
        )

    @override
    def _planes(self) -> dict[PlaneGeometry, list[torch.Tensor]]:
        scales = {"k_scale": self.k_scale_buffer, "v_scale": self.v_scale_buffer}
        planes = {
            PlaneGeometry(
                name=name, row_shape=tuple(buffers[0].shape[1:]), dtype=torch.uint8
            ): buffers
            for name, buffers in scales.items()
        }
        return super()._planes() | planes

    @override
    def make_host_pool(
        self, arguments: HostPoolArguments, *, override_kv_cache_dim: int | None
    ) -> HostKVCache:
        refuse_row_width(override_kv_cache_dim)
        return MHATokenToKVPoolMXFP8Host(device_pool=self, **arguments)

    def get_kv_scale_buffer(self, layer_id: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scales of keys and values of a global layer, as bytes.

        Order: the current stream waits for the layer's load first.
        """
        index = self._layer_index(layer_id)
        return self.k_scale_buffer[index], self.v_scale_buffer[index]

    def _check_blocks(self) -> None:
        if self.dtype != torch.float8_e4m3fn:
            raise PoolError(
                "MHATokenToKVPoolMXFP8",
                "dtype must be e4m3",
                expected=torch.float8_e4m3fn,
                got=self.dtype,
            )
        for head_dim in (self.head_dim, self.v_head_dim):
            if head_dim % SCALE_BLOCK_SIZE:
                raise PoolError(
                    "MHATokenToKVPoolMXFP8",
                    "a head must be whole scale blocks",
                    expected=f"a multiple of {SCALE_BLOCK_SIZE}",
                    got=head_dim,
                )
