"""The request table of models with recurrent states."""

from dataclasses import replace

import torch

from assembler.allocators.base import MambaSlotAllocator
from assembler.device.base import Device
from assembler.device_pools.base import LayerLoadWaiter
from assembler.device_pools.mamba import MambaPool
from assembler.errors import PoolError
from assembler.host_pools.mirrored import MirroredPool


class HybridReqToTokenPool(LayerLoadWaiter):
    """Request table of a Mamba hybrid, through which linear layers read their states.

    The table of tokens by request is not kept: nothing in this package reads it.

    Attributes:
        size: requests.
        mamba_pool: the states.
        mamba_allocator: hands out the states' slots.
        mamba_map: global layer id to layer index in ``mamba_pool``.
        start_layer: first global layer id of the pipeline stage.
        device: the accelerator that holds the states.
        page_size: 1, as the states'.

    Source: sglang 0.5.12 ``memory_pool.py:487-690``.
    """

    def __init__(
        self,
        *,
        size: int,
        mamba_pool: MambaPool,
        mamba_allocator: MambaSlotAllocator,
        mamba_layer_ids: list[int],
        start_layer: int,
        device: Device,
    ) -> None:
        if len(mamba_layer_ids) != mamba_pool.layer_num:
            rule = "layer ids must name every layer of the Mamba pool"
            expected = f"{mamba_pool.layer_num} ids"
            raise PoolError("HybridReqToTokenPool", rule, expected=expected, got=mamba_layer_ids)
        self.size = size
        self.page_size = mamba_pool.page_size
        self.mamba_pool = mamba_pool
        self.mamba_allocator = mamba_allocator
        self.mamba_map = {layer_id: index for index, layer_id in enumerate(mamba_layer_ids)}
        self.start_layer = start_layer
        self.device = device
        self.layer_transfer_counter = None

    def mirrored(self) -> tuple[MirroredPool, ...]:
        """Return the states, which have to be mirrored on the host."""
        (states,) = self.mamba_pool.mirrored()
        return (replace(states, layer_mapping=self.mamba_map, read_layer=self.mamba2_layer_cache),)

    def mamba2_layer_cache(self, layer_id: int) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return convolution states and temporal state of a global layer.

        Shape: each ``(size + 1, *state_shape)``.

        Raises:
            PoolError: the layer is no linear layer.

        Order: the current stream waits for the layer's load first.
        """
        if layer_id not in self.mamba_map:
            rule, expected = "layer must be a linear one", f"one of {list(self.mamba_map)}"
            raise PoolError("HybridReqToTokenPool", rule, expected=expected, got=layer_id)
        self.wait_for_layer(layer_id)
        index = self.mamba_map[layer_id]
        return [conv[index] for conv in self.mamba_pool.conv], self.mamba_pool.temporal[index]
