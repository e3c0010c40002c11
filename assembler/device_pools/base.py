"""Base of the device pools: layers, declared rows, waiting for a layer's load."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import ClassVar, Protocol

import torch
from typing_extensions import override

from assembler.errors import AssemblyError, PoolError
from assembler.geometry import PlaneGeometry, PoolGeometry, PoolSlots
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.memory import HostPoolArguments
from assembler.host_pools.mirrored import MakeSidecarHost, MirroredPool
from assembler.names import ComponentType, PoolName

FP8_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)


class SlotAllocator(Protocol):
    """Owner of device slots.

    Attributes:
        size: slots that can be handed out.
    """

    size: int

    def alloc(self, need_size: int) -> torch.Tensor | None:
        """Return ``(need_size,) int64`` slots in device memory, or None when there are too few."""
        ...

    def free(self, free_index: torch.Tensor) -> None:
        """Take slots back."""
        ...

    def available_size(self) -> int:
        """Return the number of free slots."""
        ...


class LayerTransferCounter(Protocol):
    """Counter of the layers that a load has reached."""

    def wait_until(self, threshold: int) -> None:
        """Order the current stream after the load of stage-local layer ``threshold``."""
        ...


class LayerLoadWaiter:
    """Mixin for objects whose readers may have to wait for a layer.

    Attributes:
        start_layer: first global layer id of the pipeline stage.
        layer_transfer_counter: counter to wait on; None while nothing is loaded from a host.
    """

    start_layer: int
    layer_transfer_counter: LayerTransferCounter | None

    def register_layer_transfer_counter(self, counter: LayerTransferCounter | None) -> None:
        """Wait on ``counter`` from now on, or on nothing."""
        self.layer_transfer_counter = counter

    def wait_for_layer(self, layer_id: int) -> None:
        """Order the current stream after the load of global layer ``layer_id``."""
        if self.layer_transfer_counter is not None:
            # Counters number the layers of a stage from 0, attention those of the model.
            self.layer_transfer_counter.wait_until(layer_id - self.start_layer)


class KVCache(LayerLoadWaiter, ABC):
    """Base of the pools that attention reads by global layer id.

    Attributes:
        size: usable slots.
        page_size: slots in a page.
        dtype: type the model computes with.
        store_dtype: type of the buffers; uint8 where ``dtype`` is a float8.
        layer_num: layers in the pool.
        device: the accelerator that holds the buffers.
        start_layer: first global layer id.
        end_layer: last global layer id, inclusive.
        components: the parts of a cache node that a model with this pool has.

    Source: sglang 0.5.12 ``memory_pool.py:693-786``.
    """

    components: ClassVar[tuple[ComponentType, ...]]

    def __init__(self, slots: PoolSlots) -> None:
        self.size = slots.size
        self.page_size = slots.page_size
        self.dtype = slots.dtype
        # torch has few operations for float8: index copies and comparisons need plain bytes.
        self.store_dtype = torch.uint8 if slots.dtype in FP8_DTYPES else slots.dtype
        self.layer_num = slots.layers.layer_num
        self.device = slots.device
        self.start_layer = slots.layers.start_layer
        self.end_layer = slots.layers.end_layer
        self.layer_transfer_counter = None

    @property
    @abstractmethod
    def full_kv_pool(self) -> "TokenKVPool":
        """The pool of the full-attention layers, whose slots are the anchor's."""

    @abstractmethod
    def mirrored(self) -> tuple[MirroredPool, ...]:
        """Return everything that has to be mirrored on the host, the anchor first."""

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
        # Before the buffer is handed out: what is launched after this is behind the load.
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


class TokenKVPool(KVCache):
    """Base of the pools that hold one row a token and layer, in one tensor a plane and layer.

    Buffers have ``size + page_size`` rows: slot 0, and with paging all of page 0, takes the writes
    of padded tokens and is never handed out.

    Attributes:
        use_mla: whether keys and values share one latent row.

    Raises:
        PoolError: ``end_layer - start_layer + 1`` is not ``layer_num``.
    """

    components = (ComponentType.FULL,)
    use_mla: bool = False

    def __init__(self, slots: PoolSlots) -> None:
        super().__init__(slots)
        span = self.end_layer - self.start_layer + 1
        if span != self.layer_num:
            raise PoolError(
                type(self).__name__,
                "end_layer is inclusive, so end_layer - start_layer + 1 must be layer_num",
                expected=self.layer_num,
                got=span,
            )

    @property
    @override
    def full_kv_pool(self) -> "TokenKVPool":
        return self

    @property
    def host_row_width(self) -> int | None:
        """Elements of a latent row, for a host pool that cannot compute them; None elsewhere."""
        return None

    @abstractmethod
    def make_host_pool(
        self, arguments: HostPoolArguments, *, override_kv_cache_dim: int | None
    ) -> HostKVCache:
        """Build the host mirror; see :class:`assembler.host_pools.base.DevicePool`."""

    @abstractmethod
    def _planes(self) -> dict[PlaneGeometry, list[torch.Tensor]]:
        """Return the buffers of every layer by plane, in the order of a transfer."""

    def _sidecar_planes(self) -> dict[PlaneGeometry, list[torch.Tensor]]:
        """Return the buffers that another host pool mirrors on the slots of this one."""
        return {}

    def plane_buffer(self, *, plane: str, layer: int) -> torch.Tensor:
        """Return the rows of a plane in one layer, by index in the pool.

        Does not wait: transfers order themselves.

        Raises:
            PoolError: the pool has no such plane.
        """
        return self.layer_buffers(plane)[layer]

    def layer_buffers(self, plane: str) -> list[torch.Tensor]:
        """Return the rows of a plane in every layer, in order; raises as :meth:`plane_buffer`."""
        buffers = self._layers_by_plane
        if plane not in buffers:
            raise unknown_plane(self, plane, tuple(buffers))
        return buffers[plane]

    @cached_property
    def _layers_by_plane(self) -> dict[str, list[torch.Tensor]]:
        # Every transfer asks for every plane and layer.
        planes = {**self._planes(), **self._sidecar_planes()}
        return {geometry.name: layers for geometry, layers in planes.items()}

    @override
    def mirrored(self) -> tuple[MirroredPool, ...]:
        return (
            self._mirrored(
                PoolName.KV,
                planes=tuple(self._planes()),
                slots_per_row=1,
                read_layer=self.get_kv_buffer,
                make_sidecar_host=None,
            ),
        )

    def _mirrored(
        self,
        name: PoolName,
        *,
        planes: tuple[PlaneGeometry, ...],
        slots_per_row: int,
        read_layer: Callable[[int], object],
        make_sidecar_host: MakeSidecarHost | None,
    ) -> MirroredPool:
        """Return the declaration of some planes, which every layer of the pool has."""
        layer_ids = range(self.start_layer, self.end_layer + 1)
        return MirroredPool(
            geometry=PoolGeometry(
                pool=name, planes=planes, slots_per_row=slots_per_row, layer_num=self.layer_num
            ),
            component=ComponentType.FULL,
            device_pool=self,
            layer_mapping={layer_id: index for index, layer_id in enumerate(layer_ids)},
            read_layer=read_layer,
            make_sidecar_host=make_sidecar_host,
        )

    def _layers(self, row_shape: tuple[int, ...], dtype: torch.dtype) -> list[torch.Tensor]:
        """Return zeroed rows for every slot, one tensor a layer."""
        # Zeros, not empty: padded tokens read rows that were never written, and a NaN would spread
        # from a masked position through the softmax.
        shape = (self.size + self.page_size, *row_shape)
        return [self.device.zeros(shape, dtype) for _ in range(self.layer_num)]

    def _as_computed(self, buffer: torch.Tensor) -> torch.Tensor:
        # A view of the same bytes; a copy would not see rows that are loaded later.
        return buffer.view(self.dtype) if self.store_dtype != self.dtype else buffer


def refuse_row_width(override_kv_cache_dim: int | None) -> None:
    """Raise AssemblyError when a row width is given for rows that are not latent."""
    if override_kv_cache_dim is not None:
        raise AssemblyError(
            "KV",
            "only latent rows have a width to override",
            expected="override_kv_cache_dim=None",
            got=override_kv_cache_dim,
        )


def unknown_plane(pool: object, plane: str, known: tuple[str, ...]) -> PoolError:
    """Return the error for a plane that a pool does not have."""
    return PoolError(type(pool).__name__, "unknown plane", expected=" or ".join(known), got=plane)
