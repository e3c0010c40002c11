"""Declarations of device pools: which rows of a model a host pool must mirror."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch

from assembler.geometry import PoolGeometry
from assembler.host_pools.base import DevicePool, HostKVCache
from assembler.host_pools.memory import HostPoolArguments
from assembler.names import ComponentType

MakeSidecarHost: TypeAlias = Callable[[HostKVCache, HostPoolArguments], HostKVCache]
"""Builds a host pool on the slots of an anchor's host pool."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MirroredPool:
    """Rows of a model that a host pool must mirror, as the owner of the rows declares them.

    Attributes:
        geometry: name in the host pool group, planes, slots of a row, layers.
        component: the part of a cache node whose slots number the rows.
        device_pool: the pool that holds the planes.
        layer_mapping: layer index in the pool by global layer id, in order of the pool.
        read_layer: returns the rows of a global layer as attention reads them; the current stream
            waits for the layer's load first.
        make_sidecar_host: builds the host pool on the slots of an anchor's host pool; None for rows
            that have slots of their own.
    """

    geometry: PoolGeometry
    component: ComponentType
    device_pool: DevicePool
    layer_mapping: Mapping[int, int]
    read_layer: Callable[[int], object]
    make_sidecar_host: MakeSidecarHost | None

    @property
    def owns_slots(self) -> bool:
        """True for rows that have slots of their own."""
        return self.make_sidecar_host is None

    def plane_buffers(self, plane: str) -> list[torch.Tensor]:
        """Return the device buffer of a plane in every layer, in order of the pool."""
        return list(self.device_pool.layer_buffers(plane)[: self.geometry.layer_num])
