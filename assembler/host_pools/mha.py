"""Host mirror of keys and values."""

from typing import ClassVar, Protocol

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.geometry import PlaneGeometry
from assembler.host_pools.base import DevicePool
from assembler.host_pools.memory import HostMemory
from assembler.host_pools.sizing import HostSize, bytes_per_slot, host_page_num
from assembler.host_pools.tokens import TokenHostPool
from assembler.names import HostLayout, IoBackend


class MHARows(DevicePool, Protocol):
    """A device pool of keys and values.

    Attributes:
        head_num: KV heads on this rank.
        head_dim: elements of a key head.
        v_head_dim: elements of a value head.
    """

    head_num: int
    head_dim: int
    v_head_dim: int


class MHATokenToKVPoolHost(TokenHostPool):
    """Keys and values of a device pool.

    There is no ``override_kv_cache_dim``: the width of a head is the device pool's.

    Attributes:
        kv_buffer: keys and values in one tensor with a leading axis of 2 when they are equally
            wide, a list of two tensors otherwise; either way ``kv_buffer[0]`` are the keys. Shapes
            after that axis: :mod:`assembler.host_pools.layouts`, with ``row = (head_num, dim)``.

    Source: sglang 0.5.12 ``memory_pool_host.py:291-785``; wider or narrower values as in 0.5.23.
    """

    layouts: ClassVar = {
        IoBackend.KERNEL: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST, HostLayout.PAGE_HEAD),
        IoBackend.DIRECT: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST_DIRECT),
    }

    def __init__(  # noqa: PLR0913 - published signature
        self,
        *,
        device_pool: MHARows,
        host_to_device_ratio: float,
        host_size: float,
        page_size: int,
        layout: str,
        pin_memory: bool,
        device: Device,
        allocator_type: str | None,
    ) -> None:
        planes = self.planes_of(device_pool)
        size = HostSize(
            host_to_device_ratio=host_to_device_ratio, host_size=host_size, page_size=page_size
        )
        super().__init__(
            device_pool=device_pool,
            planes=planes,
            slots_per_row=1,
            page_num=host_page_num(
                subject=type(self).__name__,
                size=size,
                device_size=device_pool.size,
                size_per_token=bytes_per_slot(planes, 1, device_pool.layer_num),
            ),
            page_size=page_size,
            memory=HostMemory(
                layout=layout, pin_memory=pin_memory, device=device, allocator_type=allocator_type
            ),
        )
        self._allocate()

    def _allocate(self) -> None:
        """Make the buffers of every plane."""
        self.kv_buffer = self._new_pair(*self.planes[:2])

    @staticmethod
    def planes_of(device_pool: MHARows) -> tuple[PlaneGeometry, ...]:
        """Return the planes that mirror ``device_pool``: keys, values, then any others."""
        k_shape = (device_pool.head_num, device_pool.head_dim)
        v_shape = (device_pool.head_num, device_pool.v_head_dim)
        return (
            PlaneGeometry(name="k", row_shape=k_shape, dtype=device_pool.store_dtype),
            PlaneGeometry(name="v", row_shape=v_shape, dtype=device_pool.store_dtype),
        )

    @property
    def k_buffer(self) -> torch.Tensor:
        """The keys, in the shape of the layout."""
        return self.kv_buffer[0]

    @property
    def v_buffer(self) -> torch.Tensor:
        """The values, in the shape of the layout."""
        return self.kv_buffer[1]

    @override
    def plane_buffer(self, plane: str) -> torch.Tensor:
        return self.k_buffer if plane == "k" else self.v_buffer

    def _new_pair(self, k: PlaneGeometry, v: PlaneGeometry) -> torch.Tensor | list[torch.Tensor]:
        """Return the buffers of two planes: one tensor where they have the same shape."""
        k_shape, v_shape = self._buffer_shape(k), self._buffer_shape(v)
        # Indexing the first axis gives contiguous views, as kernels need them.
        if k_shape == v_shape:
            return self._empty((2, *k_shape), k.dtype)
        return [self._empty(k_shape, k.dtype), self._empty(v_shape, v.dtype)]
