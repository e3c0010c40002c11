"""Linear-attention hybrids: the few full-attention layers, reached by global layer id."""

from dataclasses import replace
from functools import partial

import torch
from typing_extensions import override

from assembler.device_pools.base import KVCache, LayerTransferCounter, TokenKVPool
from assembler.errors import PoolError
from assembler.geometry import PoolLayers, PoolSlots
from assembler.host_pools.mirrored import MirroredPool
from assembler.names import ComponentType


class HybridLinearKVPool(KVCache):
    """The pool of the full-attention layers, which is numbered 0 to n-1, behind global layer ids.

    Readers wait at this wrapper, once; the inner pool has no counter. The states of the linear
    layers are reached through ``HybridReqToTokenPool``.

    Attributes:
        full_kv_pool: the wrapped pool.
        use_mla: whether it holds latent rows.
        full_attention_layer_id_mapping: global layer id to layer index in ``full_kv_pool``.

    Raises:
        PoolError: there is not one id for each layer of the wrapped pool, or an id lies outside
            ``start_layer`` to ``end_layer``; the wrapped pool is not numbered from 0.

    Source: sglang 0.5.12 ``memory_pool.py:1389-1560``.
    """

    components = (ComponentType.FULL, ComponentType.MAMBA)

    def __init__(
        self,
        *,
        full_kv_pool: TokenKVPool,
        full_attention_layer_ids: list[int],
        start_layer: int,
        end_layer: int,
    ) -> None:
        layer_num = len(full_attention_layer_ids)
        super().__init__(
            PoolSlots(
                size=full_kv_pool.size,
                page_size=full_kv_pool.page_size,
                dtype=full_kv_pool.dtype,
                layers=PoolLayers(
                    layer_num=layer_num, start_layer=start_layer, end_layer=end_layer
                ),
                device=full_kv_pool.device,
            )
        )
        self._full_kv_pool = full_kv_pool
        self.use_mla = full_kv_pool.use_mla
        self.full_attention_layer_id_mapping = {
            layer_id: index for index, layer_id in enumerate(full_attention_layer_ids)
        }
        self._check_layer_ids()

    @override
    def register_layer_transfer_counter(self, counter: LayerTransferCounter | None) -> None:
        super().register_layer_transfer_counter(counter)
        # The inner pool numbers layers from 0 and would wait for a wrong one.
        self.full_kv_pool.register_layer_transfer_counter(None)

    @property
    @override
    def full_kv_pool(self) -> TokenKVPool:
        return self._full_kv_pool

    @override
    def mirrored(self) -> tuple[MirroredPool, ...]:
        rows, *sidecars = (
            replace(
                inner,
                layer_mapping=self.full_attention_layer_id_mapping,
                read_layer=partial(self._read_inner, inner),
            )
            for inner in self._full_kv_pool.mirrored()
        )
        return (replace(rows, read_layer=self.get_kv_buffer), *sidecars)

    @override
    def get_key_buffer(self, layer_id: int) -> torch.Tensor:
        return self.full_kv_pool.get_key_buffer(self._inner_index(layer_id))

    @override
    def get_value_buffer(self, layer_id: int) -> torch.Tensor:
        return self.full_kv_pool.get_value_buffer(self._inner_index(layer_id))

    def _read_inner(self, inner: MirroredPool, layer_id: int) -> object:
        return inner.read_layer(self._inner_index(layer_id))

    def _inner_index(self, layer_id: int) -> int:
        """Wait for a global layer and return its index in the wrapped pool."""
        if layer_id not in self.full_attention_layer_id_mapping:
            raise PoolError(
                "HybridLinearKVPool",
                "layer must be a full-attention one",
                expected=f"one of {list(self.full_attention_layer_id_mapping)}",
                got=layer_id,
            )
        self.wait_for_layer(layer_id)
        return self.full_attention_layer_id_mapping[layer_id]

    def _check_layer_ids(self) -> None:
        if len(self.full_attention_layer_id_mapping) != self.full_kv_pool.layer_num:
            raise PoolError(
                "HybridLinearKVPool",
                "layer ids must name every layer of the full pool once",
                expected=f"{self.full_kv_pool.layer_num} ids",
                got=list(self.full_attention_layer_id_mapping),
            )
        if self.full_kv_pool.start_layer != 0:
            raise PoolError(
                "HybridLinearKVPool",
                "the wrapped pool must be numbered from 0",
                expected=0,
                got=self.full_kv_pool.start_layer,
            )
        for layer_id in self.full_attention_layer_id_mapping:
            self._check_layer(layer_id)
