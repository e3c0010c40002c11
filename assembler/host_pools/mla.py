"""Host mirror of latent rows."""

from typing import ClassVar, Protocol

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.errors import PoolError
from assembler.geometry import PlaneGeometry
from assembler.host_pools.base import DevicePool
from assembler.host_pools.memory import HostMemory
from assembler.host_pools.sizing import HostSize, bytes_per_slot, host_page_num
from assembler.host_pools.tokens import TokenHostPool
from assembler.names import HostLayout, IoBackend


class LatentRows(DevicePool, Protocol):
    """A device pool of latent rows.

    Attributes:
        kv_lora_rank: elements of the latent part.
        qk_rope_head_dim: elements of the rotary part.
    """

    kv_lora_rank: int
    qk_rope_head_dim: int


class MLATokenToKVPoolHost(TokenHostPool):
    """Latent rows of a device pool.

    The width of a row is what the *caller* says. ``override_kv_cache_dim=None`` means
    ``kv_lora_rank + qk_rope_head_dim``, whatever the device pool's own ``kv_cache_dim`` is: as in
    the field, that attribute is not consulted. A caller that forgets the override of a scaled
    float8 pool gets a narrower host pool; the checks at the end of every stack builder, not this
    class, compare the two.

    Attributes:
        kv_buffer: one tensor, shapes in :mod:`assembler.host_pools.layouts`, with
            ``row = (1, width)``; there is no ``page_head``.

    Raises:
        PoolError: an override below 1; otherwise as the base class.

    Source: sglang 0.5.12 ``memory_pool_host.py:788-1185`` (#25022), where 0 means None.
    """

    layouts: ClassVar = {
        IoBackend.KERNEL: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST),
        IoBackend.DIRECT: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST_DIRECT),
    }

    def __init__(  # noqa: PLR0913 - published signature
        self,
        *,
        device_pool: LatentRows,
        host_to_device_ratio: float,
        host_size: float,
        page_size: int,
        layout: str,
        pin_memory: bool,
        device: Device,
        allocator_type: str | None,
        override_kv_cache_dim: int | None,
    ) -> None:
        width = _row_width(device_pool, override_kv_cache_dim)
        plane = PlaneGeometry(name="kv", row_shape=(1, width), dtype=device_pool.store_dtype)
        size = HostSize(
            host_to_device_ratio=host_to_device_ratio, host_size=host_size, page_size=page_size
        )
        super().__init__(
            device_pool=device_pool,
            planes=(plane,),
            slots_per_row=1,
            page_num=host_page_num(
                subject=type(self).__name__,
                size=size,
                device_size=device_pool.size,
                size_per_token=bytes_per_slot((plane,), 1, device_pool.layer_num),
            ),
            page_size=page_size,
            memory=HostMemory(
                layout=layout, pin_memory=pin_memory, device=device, allocator_type=allocator_type
            ),
        )
        self.kv_buffer = self._empty(self._buffer_shape(plane), plane.dtype)

    @override
    def plane_buffer(self, plane: str) -> torch.Tensor:
        return self.kv_buffer

    @override
    def _layer_rows(self, buffer: torch.Tensor, layer: int) -> torch.Tensor:
        return self._without_head_axis(super()._layer_rows(buffer, layer))

    @override
    def _device_rows(self, buffer: torch.Tensor) -> torch.Tensor:
        return self._without_head_axis(super()._device_rows(buffer))

    def _without_head_axis(self, rows: torch.Tensor) -> torch.Tensor:
        # Pages become (page, slot, element): torch names the axis of a width that differs by
        # number, and it must be the same number as for single slots.
        return rows.squeeze(2) if self.layout is HostLayout.PAGE_FIRST_DIRECT else rows


def _row_width(device_pool: LatentRows, override_kv_cache_dim: int | None) -> int:
    if override_kv_cache_dim is None:
        return device_pool.kv_lora_rank + device_pool.qk_rope_head_dim
    if override_kv_cache_dim < 1:
        raise PoolError(
            "MLATokenToKVPoolHost",
            "override_kv_cache_dim must be a width or None",
            expected="1 or more",
            got=override_kv_cache_dim,
        )
    return override_kv_cache_dim
