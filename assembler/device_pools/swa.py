"""Sliding-window hybrids: a large pool for full attention, a small one for the window layers."""

from dataclasses import replace

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.device_pools.base import KVCache, LayerTransferCounter
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.errors import PoolError
from assembler.geometry import PoolLayers, PoolSlots
from assembler.host_pools.mirrored import MirroredPool
from assembler.names import ComponentType, PoolName


class SWAKVPool(KVCache):
    """Two MHA pools behind global layer ids, which start at 0.

    Readers wait at this wrapper, once; the inner pools have no counter.

    Attributes:
        full_kv_pool: pool of the full-attention layers, ``size`` slots.
        swa_kv_pool: pool of the window layers, ``size_swa`` slots, with its own head dimensions.
        layers_mapping: global layer id to ``(index in its pool, is_swa)``.

    Raises:
        PoolError: the two lists of layer ids are not a partition of ``0..n-1``.

    Source: sglang 0.5.12 ``swa_memory_pool.py:29-116``.
    """

    components = (ComponentType.FULL, ComponentType.SWA)

    def __init__(  # noqa: PLR0913 - published signature
        self,
        *,
        size: int,
        size_swa: int,
        page_size: int,
        dtype: torch.dtype,
        head_num: int,
        head_dim: int,
        v_head_dim: int,
        swa_head_num: int,
        swa_head_dim: int,
        swa_v_head_dim: int,
        swa_attention_layer_ids: list[int],
        full_attention_layer_ids: list[int],
        device: Device,
    ) -> None:
        layer_num = len(full_attention_layer_ids) + len(swa_attention_layer_ids)
        layers = PoolLayers(layer_num=layer_num, start_layer=0, end_layer=layer_num - 1)
        super().__init__(
            PoolSlots(size=size, page_size=page_size, dtype=dtype, layers=layers, device=device)
        )
        self.layers_mapping = _layers_mapping(
            full_ids=full_attention_layer_ids, swa_ids=swa_attention_layer_ids
        )
        self._full_kv_pool = self._inner_pool(
            size=size,
            head_num=head_num,
            head_dim=head_dim,
            v_head_dim=v_head_dim,
            layer_num=len(full_attention_layer_ids),
        )
        self.swa_kv_pool = self._inner_pool(
            size=size_swa,
            head_num=swa_head_num,
            head_dim=swa_head_dim,
            v_head_dim=swa_v_head_dim,
            layer_num=len(swa_attention_layer_ids),
        )
        self._full_to_swa_index_mapping: torch.Tensor | None = None

    @property
    @override
    def full_kv_pool(self) -> MHATokenToKVPool:
        return self._full_kv_pool

    @property
    def full_to_swa_index_mapping(self) -> torch.Tensor | None:
        """Window slot of each full slot, ``(size + page_size + 1,) int64``; None at first."""
        return self._full_to_swa_index_mapping

    def register_mapping(self, full_to_swa_index_mapping: torch.Tensor) -> None:
        """Share the allocator's table of window slots."""
        # The tensor itself: the allocator writes into it in place, and attention must see that.
        self._full_to_swa_index_mapping = full_to_swa_index_mapping

    @override
    def register_layer_transfer_counter(self, counter: LayerTransferCounter | None) -> None:
        super().register_layer_transfer_counter(counter)
        # The wrapper has waited; the inner pools number layers otherwise and would wait for a wrong
        # one.
        self.full_kv_pool.register_layer_transfer_counter(None)
        self.swa_kv_pool.register_layer_transfer_counter(None)

    @override
    def mirrored(self) -> tuple[MirroredPool, ...]:
        (full,) = self._full_kv_pool.mirrored()
        (swa,) = self.swa_kv_pool.mirrored()
        return (
            replace(
                full, layer_mapping=self._layers_of(is_swa=False), read_layer=self.get_kv_buffer
            ),
            replace(
                swa,
                geometry=replace(swa.geometry, pool=PoolName.SWA),
                component=ComponentType.SWA,
                layer_mapping=self._layers_of(is_swa=True),
                read_layer=self.get_kv_buffer,
            ),
        )

    @override
    def get_key_buffer(self, layer_id: int) -> torch.Tensor:
        index, pool = self._inner(layer_id)
        return pool.get_key_buffer(index)

    @override
    def get_value_buffer(self, layer_id: int) -> torch.Tensor:
        index, pool = self._inner(layer_id)
        return pool.get_value_buffer(index)

    def _layers_of(self, *, is_swa: bool) -> dict[int, int]:
        """Return layer index by global layer id for one of the inner pools."""
        layers = self.layers_mapping.items()
        return {layer_id: index for layer_id, (index, window) in layers if window is is_swa}

    def _inner(self, layer_id: int) -> tuple[int, MHATokenToKVPool]:
        """Wait for a global layer; return its index and the pool that has it."""
        index, is_swa = self.layers_mapping[self._layer_index(layer_id)]
        return index, self.swa_kv_pool if is_swa else self.full_kv_pool

    def _inner_pool(
        self, *, size: int, head_num: int, head_dim: int, v_head_dim: int, layer_num: int
    ) -> MHATokenToKVPool:
        return MHATokenToKVPool(
            size=size,
            page_size=self.page_size,
            dtype=self.dtype,
            head_num=head_num,
            head_dim=head_dim,
            v_head_dim=v_head_dim,
            layer_num=layer_num,
            device=self.device,
            start_layer=0,
            end_layer=layer_num - 1,
        )


def _layers_mapping(*, full_ids: list[int], swa_ids: list[int]) -> dict[int, tuple[int, bool]]:
    layer_num = len(full_ids) + len(swa_ids)
    if sorted([*full_ids, *swa_ids]) != list(range(layer_num)):
        raise PoolError(
            "SWAKVPool",
            "full and window layers must be every layer once",
            expected=f"0 to {layer_num - 1}",
            got=f"full {full_ids}, window {swa_ids}",
        )
    mapping = {layer_id: (index, False) for index, layer_id in enumerate(full_ids)}
    return mapping | {layer_id: (index, True) for index, layer_id in enumerate(swa_ids)}
