"""State-space layers: one slot holds the whole state of one request, not of one token."""

from collections.abc import Sequence

import torch

from assembler.device.access import row_access, tensor_access
from assembler.device.base import Device
from assembler.device_pools.base import refuse_row_width, unknown_plane
from assembler.geometry import PlaneGeometry, PoolGeometry
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.mamba import MambaPoolHost
from assembler.host_pools.memory import HostPoolArguments
from assembler.host_pools.mirrored import MirroredPool
from assembler.names import ComponentType, PoolName


class MambaPool:
    """Convolution and temporal states of all linear layers; slot 0 takes the writes of padding.

    Attributes:
        size: usable slots, 1 to ``size``.
        page_size: 1, a state is never split or joined.
        layer_num: linear layers in the pool.
        start_layer: 0, layers are numbered within the pool.
        end_layer: ``layer_num - 1``.
        mamba_layer_ids: global layer ids, in the order of the pool.
        dtype: type of the temporal state; each plane's own type is in its geometry.
        store_dtype: the same.
        device: the accelerator that holds the states.
        temporal: ``(layer_num, size + 1, *temporal_shape) temporal_dtype``.
        conv: a tensor for each convolution, ``(layer_num, size + 1, *conv_shape) conv_dtype``.
        use_mla: False, states are no attention rows.
        host_row_width: None, for the same reason.

    Source: sglang 0.5.12 ``memory_pool.py:195-430``; without the speculative scratch states, which
    never leave the device, and without slot allocation (``MambaSlotAllocator``, as from 0.5.13).
    """

    use_mla = False
    host_row_width: int | None = None

    def __init__(  # noqa: PLR0913 - published signature
        self,
        *,
        size: int,
        conv_shapes: tuple[tuple[int, ...], ...],
        temporal_shape: tuple[int, ...],
        conv_dtype: torch.dtype,
        temporal_dtype: torch.dtype,
        mamba_layer_ids: list[int],
        device: Device,
    ) -> None:
        self.size = size
        self.page_size = 1
        self.layer_num = len(mamba_layer_ids)
        self.start_layer = 0
        self.end_layer = self.layer_num - 1
        self.mamba_layer_ids = mamba_layer_ids
        self.dtype = temporal_dtype
        self.store_dtype = temporal_dtype
        self.device = device
        # All layers in one tensor: the rows of a layer are one block, the states of a slot are not.
        slots = (self.layer_num, size + 1)
        self.temporal = device.zeros((*slots, *temporal_shape), temporal_dtype)
        self.conv = [device.zeros((*slots, *shape), conv_dtype) for shape in conv_shapes]
        # Made once: a transfer asks for the states of every layer before it launches anything.
        self._layers: dict[str, tuple[torch.Tensor, ...]] = {
            name: tuple(buffer) for name, buffer in self._planes().items()
        }

    def mirrored(self) -> tuple[MirroredPool, ...]:
        """Return the states, which have to be mirrored on the host."""
        planes = tuple(
            PlaneGeometry(name=name, row_shape=tuple(buffer.shape[2:]), dtype=buffer.dtype)
            for name, buffer in self._planes().items()
        )
        states = MirroredPool(
            geometry=PoolGeometry(
                pool=PoolName.MAMBA, planes=planes, slots_per_row=1, layer_num=self.layer_num
            ),
            component=ComponentType.MAMBA,
            device_pool=self,
            layer_mapping={layer_id: index for index, layer_id in enumerate(self.mamba_layer_ids)},
            read_layer=self.layer_states,
            make_sidecar_host=None,
        )
        return (states,)

    def layer_states(self, layer_id: int) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return convolution states and temporal state of a global layer; does not wait.

        Shape: each ``(size + 1, *state_shape)``.
        """
        # Views: a state that is loaded later shows in them.
        index = self.mamba_layer_ids.index(layer_id)
        return [conv[index] for conv in self.conv], self.temporal[index]

    def make_host_pool(
        self, arguments: HostPoolArguments, *, override_kv_cache_dim: int | None
    ) -> HostKVCache:
        """Build the host mirror; a page is one state, whatever ``page_size`` the anchor has.

        Raises:
            AssemblyError: a row width is given.
            PoolError: the layout is unknown to the host pool, or it would not outgrow the device.
            OutOfHostMemoryError: the host pool does not fit.
        """
        refuse_row_width(override_kv_cache_dim)
        return MambaPoolHost(
            device_pool=self,
            host_to_device_ratio=arguments["host_to_device_ratio"],
            host_size=arguments["host_size"],
            layout=arguments["layout"],
            pin_memory=arguments["pin_memory"],
            device=arguments["device"],
            allocator_type=arguments["allocator_type"],
        )

    def plane_buffer(self, *, plane: str, layer: int) -> torch.Tensor:
        """Return the states of a plane in one layer, ``(size + 1, *state_shape)``.

        Raises:
            PoolError: the pool has no such plane.
        """
        return self.layer_buffers(plane)[layer]

    def layer_buffers(self, plane: str) -> Sequence[torch.Tensor]:
        """Return the states of a plane in every layer; raises as :meth:`plane_buffer`."""
        if plane not in self._layers:
            raise unknown_plane(self, plane, tuple(self._layers))
        return self._layers[plane]

    def clear_slots(self, slots: torch.Tensor) -> None:
        """Zero the states of some slots in every layer.

        Shape: ``(slot_num,) int64`` in device memory.

        Order: launched on the current stream.
        """
        buffers = tuple(self._planes().values())

        # May run after this method has returned, so it holds the buffers and the slots itself.
        def operation() -> None:
            for buffer in buffers:
                buffer.index_fill_(1, slots, 0)

        # A slot of one layer is one block, so each layer is a range of rows of its own.
        states = [state for layers in self._layers.values() for state in layers]
        self.device.launch(
            operation,
            label="clear states",
            reads=(tensor_access(slots),),
            writes=tuple(row_access(state, lambda: slots) for state in states),
        )

    def _planes(self) -> dict[str, torch.Tensor]:
        convolutions = {f"conv_{index}": buffer for index, buffer in enumerate(self.conv)}
        return {"temporal": self.temporal, **convolutions}
