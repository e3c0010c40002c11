"""Rows of a native stack: buffers of device and host pools by pool name."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from assembler import HostPoolGroup, PoolName
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.mirrored import MirroredPool
from assembler.names import ComponentType
from traces.targets.common.content import RowBuffer


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentRows(RowBuffer):
    """The rows of one plane of one layer, and the component whose slots number them."""

    component: ComponentType


def device_pools_by_name(mirrored: Mapping[PoolName, MirroredPool]) -> dict[PoolName, object]:
    """Return the pools that own device buffers, by the name their host pool has."""
    return {name: pool.device_pool for name, pool in mirrored.items() if pool.owns_slots}


def host_pools_by_name(group: HostPoolGroup) -> dict[PoolName, HostKVCache]:
    """Return the host pools of a group by name."""
    return {entry.name: entry.host_pool for entry in group.entries}


def row_buffers(
    mirrored: Mapping[PoolName, MirroredPool], *, start_layer: int
) -> dict[PoolName, list[ComponentRows]]:
    """Return the rows of every plane and layer, pools with slots of their own first."""
    ordered = sorted(mirrored, key=lambda name: not mirrored[name].owns_slots)
    return {name: list(_rows(name, mirrored[name], start_layer)) for name in ordered}


def tensors_of(pool: object) -> Iterator[torch.Tensor]:
    """Yield the data buffers of a pool: its public tensor attributes, in order of their names."""
    for name, value in sorted(vars(pool).items()):
        if name.startswith("_"):
            continue
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from (item for item in value if isinstance(item, torch.Tensor))


def _rows(name: PoolName, pool: MirroredPool, start_layer: int) -> Iterator[ComponentRows]:
    for plane in pool.geometry.planes:
        layers: Iterable[tuple[int, torch.Tensor]] = zip(
            pool.layer_mapping, pool.plane_buffers(plane.name), strict=True
        )
        for index, (layer_id, tensor) in enumerate(layers):
            yield ComponentRows(
                pool=name.name,
                plane=plane.name,
                label=f"{name.name}.{plane.name}[{index}]",
                layer=layer_id - start_layer,
                tensor=tensor,
                slots_per_row=pool.geometry.slots_per_row,
                component=pool.component,
            )
