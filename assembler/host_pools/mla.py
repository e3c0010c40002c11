"""Host mirror of latent rows."""

from typing import ClassVar

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.device_pools.mla import MLATokenToKVPool
from assembler.errors import PoolError
from assembler.geometry import PlaneGeometry
from assembler.host_pools.base import HostKVCache, bytes_per_slot
from assembler.host_pools.layouts import device_rows, layer_rows, token_buffer_shape
from assembler.host_pools.sizing import host_page_num
from assembler.names import HostLayout, IoBackend
from assembler.transfer.rows import PageRows, RowMap, SlotRows


class MLATokenToKVPoolHost(HostKVCache):
    """Latent rows of a :class:`MLATokenToKVPool`.

    The width of a row is what the *caller* says. ``override_kv_cache_dim=None`` means
    ``kv_lora_rank + qk_rope_head_dim``, whatever the device pool's own ``kv_cache_dim`` is: as in
    the field, that attribute is not consulted. A caller that forgets the override of a scaled
    float8 pool gets a narrower host pool; the checks at the end of every stack builder, not this
    class, compare the two.

    Attributes:
        kv_lora_rank: elements of the latent part.
        qk_rope_head_dim: elements of the rotary part.
        kv_cache_dim: elements of a row.
        kv_buffer: one tensor, shapes in :mod:`assembler.host_pools.layouts`, with
            ``row = (1, kv_cache_dim)``; there is no ``page_head``.

    Raises:
        PoolError: an override below 1; otherwise as the base class.

    Source: sglang 0.5.12 ``memory_pool_host.py:788-1185`` (#25022), where 0 means None.
    """

    layouts: ClassVar = {
        IoBackend.KERNEL: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST),
        IoBackend.DIRECT: (HostLayout.LAYER_FIRST, HostLayout.PAGE_FIRST_DIRECT),
    }

    def __init__(
        self,
        *,
        device_pool: MLATokenToKVPool,
        host_to_device_ratio: float,
        host_size: float,
        page_size: int,
        layout: str,
        pin_memory: bool,
        device: Device,
        allocator_type: str | None,
        override_kv_cache_dim: int | None,
    ) -> None:
        self.kv_lora_rank = device_pool.kv_lora_rank
        self.qk_rope_head_dim = device_pool.qk_rope_head_dim
        self.kv_cache_dim = _row_width(device_pool, override_kv_cache_dim)
        row_shape = (1, self.kv_cache_dim)
        planes = (PlaneGeometry(name="kv", row_shape=row_shape, dtype=device_pool.store_dtype),)
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
        shape = token_buffer_shape(
            layout=self.layout,
            layer_num=self.layer_num,
            page_num=self.page_num,
            page_size=self.page_size,
            row_shape=row_shape,
        )
        self.kv_buffer = self._empty(shape, self.dtype)

    @override
    def _plane_buffer(self, plane: str) -> torch.Tensor:
        return self.kv_buffer

    @override
    def _layer_rows(self, buffer: torch.Tensor, layer: int) -> torch.Tensor:
        return self._without_head_axis(layer_rows(buffer=buffer, layout=self.layout, layer=layer))

    @override
    def _device_rows(self, buffer: torch.Tensor) -> torch.Tensor:
        return self._without_head_axis(
            device_rows(buffer=buffer, layout=self.layout, page_size=self.page_size)
        )

    @override
    def _new_row_map(self) -> RowMap:
        if self.layout is HostLayout.PAGE_FIRST_DIRECT:
            return PageRows(subject=type(self).__name__, page_size=self.page_size)
        return SlotRows()

    def _without_head_axis(self, rows: torch.Tensor) -> torch.Tensor:
        """Return pages as ``(page, slot, element)``, so that torch counts axes as for slots."""
        return rows.squeeze(2) if self.layout is HostLayout.PAGE_FIRST_DIRECT else rows


def _row_width(device_pool: MLATokenToKVPool, override_kv_cache_dim: int | None) -> int:
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
