"""Sparse attention with compressed index keys: one key for every few tokens of the rows."""

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.errors import PoolError
from assembler.geometry import PlaneGeometry
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.memory import HostPoolArguments
from assembler.host_pools.mirrored import MirroredPool
from assembler.host_pools.qsa import QSAIndexerPoolHost
from assembler.names import PoolName


class QSATokenToKVPool(MHATokenToKVPool):
    """Keys and values of every token, and an index key for ``compress_ratio`` tokens.

    The index has no slots of its own: its row is ``slot // compress_ratio``. Pages are whole groups
    of tokens, so no group lies in two pages.

    Attributes:
        index_head_dim: elements of an index key.
        compress_ratio: tokens that share a key.
        index_dtype: type of the keys.
        index_k_buffer: one tensor a layer,
            ``((size + page_size) // compress_ratio, 1, index_head_dim) index_dtype``.

    Raises:
        PoolError: a page is not whole groups of tokens.

    Source: sglang 0.5.23 ``qsa_kv_pool.py:48-260``; without the ring of pending keys, which never
        leaves the device.
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
        index_head_dim: int,
        compress_ratio: int,
        index_dtype: torch.dtype,
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
        if page_size % compress_ratio:
            raise PoolError(
                "QSATokenToKVPool",
                "a page must be whole groups of tokens",
                expected=f"a multiple of {compress_ratio}",
                got=page_size,
            )
        self.index_head_dim = index_head_dim
        self.compress_ratio = compress_ratio
        self.index_dtype = index_dtype
        # With the padding page of the tokens, so that slot // ratio needs no offset.
        shape = ((size + page_size) // compress_ratio, 1, index_head_dim)
        self.index_k_buffer = [device.zeros(shape, index_dtype) for _ in range(layer_num)]

    @override
    def mirrored(self) -> tuple[MirroredPool, ...]:
        index = self._mirrored(
            PoolName.INDEXER,
            planes=tuple(self._sidecar_planes()),
            slots_per_row=self.compress_ratio,
            read_layer=self.get_index_k_buffer,
            make_sidecar_host=self._make_indexer_host,
        )
        return (*super().mirrored(), index)

    @override
    def _sidecar_planes(self) -> dict[PlaneGeometry, list[torch.Tensor]]:
        row_shape = (1, self.index_head_dim)
        plane = PlaneGeometry(name="index_k", row_shape=row_shape, dtype=self.index_dtype)
        return {plane: self.index_k_buffer}

    def get_index_k_buffer(self, layer_id: int) -> torch.Tensor:
        """Return the index keys of a global layer, as ``index_dtype``.

        Order: the current stream waits for the layer's load first.
        """
        return self.index_k_buffer[self._layer_index(layer_id)]

    def _make_indexer_host(
        self, anchor_host: HostKVCache, arguments: HostPoolArguments
    ) -> HostKVCache:
        return QSAIndexerPoolHost(
            device_pool=self,
            anchor_host=anchor_host,
            layout=arguments["layout"],
            pin_memory=arguments["pin_memory"],
            device=arguments["device"],
            allocator_type=arguments["allocator_type"],
        )
