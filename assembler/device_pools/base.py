"""What device pools share: geometry, row buffers by plane, waiting for a layer's load."""

from abc import ABC, abstractmethod
from typing import Protocol

import torch

from assembler.device.base import Device
from assembler.errors import PoolError
from assembler.geometry import PoolGeometry

FP8_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)


class LayerTransferCounter(Protocol):
    """Says when a layer's load has happened."""

    def wait_until(self, threshold: int) -> None:
        """Order the current stream after the load of stage-local layer ``threshold``."""
        ...


class LayerLoadWaiter:
    """Mixin of objects whose readers may have to wait for a layer.

    Attributes:
        start_layer: first global layer id of the pipeline stage.
        layer_transfer_counter: what to wait on; None while nothing is loaded from a host.
    """

    start_layer: int
    layer_transfer_counter: LayerTransferCounter | None

    def register_layer_transfer_counter(self, counter: LayerTransferCounter | None) -> None:
        """Wait on ``counter`` from now on, or on nothing."""
        self.layer_transfer_counter = counter

    def wait_for_layer(self, layer_id: int) -> None:
        """Order the current stream after the load of global layer ``layer_id``."""
        if self.layer_transfer_counter is not None:
            self.layer_transfer_counter.wait_until(layer_id - self.start_layer)


class DevicePool(Protocol):
    """What a host pool needs to know of the pool it mirrors.

    Attributes:
        size: usable slots.
        page_size: slots in a page.
        layer_num: layers in the pool.
        start_layer: first global layer id.
        end_layer: last global layer id, inclusive.
        store_dtype: type the elements are stored as.
        device: the accelerator that holds the buffers.
    """

    size: int
    page_size: int
    layer_num: int
    start_layer: int
    end_layer: int
    store_dtype: torch.dtype
    device: Device

    def plane_buffer(self, *, plane: str, layer: int) -> torch.Tensor:
        """Return the rows of a plane in one layer, by index in the pool."""
        ...

    def declared_geometry(self) -> tuple[PoolGeometry, ...]:
        """Return everything that has to be mirrored on the host, one entry a pool."""
        ...


class KVCache(LayerLoadWaiter, ABC):
    """Base of the pools that hold one row a token and layer.

    Buffers have ``size + page_size`` rows: slot 0, and with paging all of page 0, takes the writes
    of padded tokens and is never handed out.

    Attributes:
        size: usable slots.
        page_size: slots in a page.
        dtype: type the model computes with.
        store_dtype: type of the buffers; uint8 where ``dtype`` is a float8.
        layer_num: layers in the pool.
        device: the accelerator that holds the buffers.
        start_layer: first global layer id.
        end_layer: last global layer id, inclusive.

    Source: sglang 0.5.12 ``memory_pool.py:693-786``.
    """

    def __init__(
        self,
        *,
        size: int,
        page_size: int,
        dtype: torch.dtype,
        layer_num: int,
        device: Device,
        start_layer: int,
        end_layer: int,
    ) -> None:
        self.size = size
        self.page_size = page_size
        self.dtype = dtype
        self.store_dtype = torch.uint8 if dtype in FP8_DTYPES else dtype
        self.layer_num = layer_num
        self.device = device
        self.start_layer = start_layer
        self.end_layer = end_layer
        self.layer_transfer_counter = None

    @abstractmethod
    def declared_geometry(self) -> tuple[PoolGeometry, ...]:
        """Return everything that has to be mirrored on the host, one entry a pool."""

    @abstractmethod
    def plane_buffer(self, *, plane: str, layer: int) -> torch.Tensor:
        """Return the rows of a plane in one layer, by index in the pool.

        Does not wait: transfers order themselves.

        Raises:
            PoolError: the pool has no such plane.
        """

    @abstractmethod
    def get_key_buffer(self, layer_id: int) -> torch.Tensor:
        """Return the keys of a global layer, as ``dtype``.

        Order: the current stream waits for the layer's load first.
        """

    @abstractmethod
    def get_value_buffer(self, layer_id: int) -> torch.Tensor:
        """Return the values of a global layer, as ``dtype``.

        Order: the current stream waits for the layer's load first.
        """

    def get_kv_buffer(self, layer_id: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values of a global layer.

        Order: the current stream waits for the layer's load first.
        """
        return self.get_key_buffer(layer_id), self.get_value_buffer(layer_id)

    def _layer_index(self, layer_id: int) -> int:
        """Wait for a global layer and return its index in the pool."""
        self._check_layer(layer_id)
        self.wait_for_layer(layer_id)
        return layer_id - self.start_layer

    def _check_layer(self, layer_id: int) -> None:
        if not self.start_layer <= layer_id <= self.end_layer:
            raise PoolError(
                type(self).__name__,
                "layer must belong to the pipeline stage",
                expected=f"{self.start_layer} to {self.end_layer}",
                got=layer_id,
            )

    def _check_layer_span(self) -> None:
        """Refuse a layer range that does not hold exactly the pool's layers."""
        span = self.end_layer - self.start_layer + 1
        if span != self.layer_num:
            raise PoolError(
                type(self).__name__,
                "end_layer is inclusive, so end_layer - start_layer + 1 must be layer_num",
                expected=self.layer_num,
                got=span,
            )

    def _as_computed(self, buffer: torch.Tensor) -> torch.Tensor:
        return buffer.view(self.dtype) if self.store_dtype != self.dtype else buffer


def unknown_plane(pool: object, plane: str, known: tuple[str, ...]) -> PoolError:
    """Return the error for a plane that a pool does not have."""
    return PoolError(type(pool).__name__, "unknown plane", expected=" or ".join(known), got=plane)
