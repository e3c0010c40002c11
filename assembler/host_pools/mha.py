"""Host mirror of keys and values."""

from typing import ClassVar

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.device_pools.mha import MHATokenToKVPool
from assembler.geometry import PlaneGeometry
from assembler.host_pools.base import HostKVCache, bytes_per_slot
from assembler.host_pools.layouts import device_rows, layer_rows, token_buffer_shape
from assembler.host_pools.sizing import host_page_num
from assembler.names import HostLayout, IoBackend
from assembler.transfer.rows import HeadRows, PageRows, RowMap, SlotRows


class MHATokenToKVPoolHost(HostKVCache):
    """Keys and values of a :class:`MHATokenToKVPool`.

    Attributes:
        head_num: KV heads on this rank.
        head_dim: elements of a key head.
        v_head_dim: elements of a value head.
        kv_buffer: keys and values in one tensor with a leading axis of 2 when they are equally
            wide, a list of two tensors otherwise; either way ``kv_buffer[0]`` are the keys. Shapes
            after that axis: :mod:`assembler.host_pools.layouts`, with ``row = (head_num, dim)``.

    There is no ``override_kv_cache_dim``: the width of a head is the device pool's.

    Source: sglang 0.5.12 ``memory_pool_host.py:291-785``; wider or narrower values as in 0.5.23.
    """

    layouts: ClassVar = {
        IoBackend.KERNEL: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST, HostLayout.PAGE_HEAD),
        IoBackend.DIRECT: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST_DIRECT),
    }

    def __init__(
        self,
        *,
        device_pool: MHATokenToKVPool,
        host_to_device_ratio: float,
        host_size: float,
        page_size: int,
        layout: str,
        pin_memory: bool,
        device: Device,
        allocator_type: str | None,
    ) -> None:
        self.head_num = device_pool.head_num
        self.head_dim = device_pool.head_dim
        self.v_head_dim = device_pool.v_head_dim
        k_shape, v_shape = (self.head_num, self.head_dim), (self.head_num, self.v_head_dim)
        planes = (
            PlaneGeometry(name="k", row_shape=k_shape, dtype=device_pool.store_dtype),
            PlaneGeometry(name="v", row_shape=v_shape, dtype=device_pool.store_dtype),
        )
        super().__init__(
            device_pool=device_pool,
            planes=planes,
            slots_per_row=1,
            page_num=host_page_num(
                subject=type(self).__name__,
                device_size=device_pool.size,
                host_to_device_ratio=host_to_device_ratio,
                host_size=host_size,
                page_size=page_size,
                size_per_token=bytes_per_slot(planes, 1, device_pool.layer_num),
            ),
            page_size=page_size,
            layout=layout,
            pin_memory=pin_memory,
            device=device,
            allocator_type=allocator_type,
        )
        self.kv_buffer = self._new_kv_buffer()

    @property
    def k_buffer(self) -> torch.Tensor:
        """The keys, in the shape of the layout."""
        return self.kv_buffer[0]

    @property
    def v_buffer(self) -> torch.Tensor:
        """The values, in the shape of the layout."""
        return self.kv_buffer[1]

    def _new_kv_buffer(self) -> torch.Tensor | list[torch.Tensor]:
        k_shape, v_shape = (
            token_buffer_shape(
                layout=self.layout,
                layer_num=self.layer_num,
                page_num=self.page_num,
                page_size=self.page_size,
                row_shape=plane.row_shape,
            )
            for plane in self.planes
        )
        if k_shape == v_shape:
            return self._empty((2, *k_shape), self.dtype)
        return [self._empty(k_shape, self.dtype), self._empty(v_shape, self.dtype)]

    @override
    def _plane_buffer(self, plane: str) -> torch.Tensor:
        return self.k_buffer if plane == "k" else self.v_buffer

    @override
    def _layer_rows(self, buffer: torch.Tensor, layer: int) -> torch.Tensor:
        return layer_rows(buffer=buffer, layout=self.layout, layer=layer)

    @override
    def _device_rows(self, buffer: torch.Tensor) -> torch.Tensor:
        return device_rows(buffer=buffer, layout=self.layout, page_size=self.page_size)

    @override
    def _new_row_map(self) -> RowMap:
        if self.layout is HostLayout.PAGE_FIRST_DIRECT:
            return PageRows(subject=type(self).__name__, page_size=self.page_size)
        if self.layout is HostLayout.PAGE_HEAD:
            return HeadRows(head_num=self.head_num, page_size=self.page_size)
        return SlotRows()
