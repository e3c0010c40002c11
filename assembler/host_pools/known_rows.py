"""The rows of a host pool and its device pool: the same objects while the buffers are the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_
from typing import Protocol

import torch

from assembler.transfer.layer_rows import LayerRows, RowSet


class PlaneBuffers(Protocol):
    """The role of a device pool here."""

    def plane_buffer(self, *, plane: str, layer: int) -> torch.Tensor:
        """Return the rows of a plane in one layer, by index in the pool."""
        ...

    def layer_buffers(self, plane: str) -> Sequence[torch.Tensor]:
        """Return the rows of a plane in every layer."""
        ...


class HostRows(Protocol):
    """The role of the host pool here."""

    def plane_buffer(self, plane: str) -> torch.Tensor:
        """Return the contiguous buffer that holds all layers of a plane."""
        ...

    def make_rows(
        self, plane: str, layer: int, buffer: torch.Tensor, device_buffer: torch.Tensor
    ) -> LayerRows:
        """Return the rows of a plane and layer, given the buffers of both sides."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Memory:
    """The buffers of the planes of a layer, whose rows are known."""

    host: tuple[object, ...]
    device: tuple[torch.Tensor, ...]
    row_set: RowSet

    def is_of(self, host: tuple[object, ...], device: tuple[torch.Tensor, ...]) -> bool:
        return self.host == host and all(map(_are_same, self.device, device))


class KnownRows:
    """Rows by layer, made once for each pair of buffers.

    It does not keep the host pool, so that a pool frees its memory when nobody has it any more.

    Args:
        planes: names of the planes, in the order in which they are moved.
    """

    def __init__(self, planes: tuple[str, ...]) -> None:
        self._planes = planes
        self._layers: dict[int, _Memory] = {}
        self._sets: LayerSets | None = None

    def layer(self, host: HostRows, device_pool: PlaneBuffers, layer: int) -> RowSet:
        """Return the rows of one layer."""
        return self._layer(host, device_pool, layer, self._host_memory(host))

    def layers(self, host: HostRows, device_pool: PlaneBuffers, layer_num: int) -> "LayerSets":
        """Return the rows of every layer, the same object while all of them are the same."""
        memory = self._host_memory(host)
        # Looking through layer by layer takes as long as a copy of 10 MB.
        buffers = [device_pool.layer_buffers(plane) for plane in self._planes]
        known = self._sets
        if known is not None and known.is_of(memory, buffers):
            return known
        layers = tuple(self._layer(host, device_pool, layer, memory) for layer in range(layer_num))
        kept = [list(some) for some in buffers]
        self._sets = LayerSets(layers, host=memory, device=kept)
        return self._sets

    def _host_memory(self, host: HostRows) -> tuple[object, ...]:
        buffers = (host.plane_buffer(plane) for plane in self._planes)
        return tuple((buffer.data_ptr(), buffer.shape) for buffer in buffers)

    def _layer(
        self, host: HostRows, device_pool: PlaneBuffers, layer: int, memory: tuple[object, ...]
    ) -> RowSet:
        buffers = tuple(
            device_pool.plane_buffer(plane=plane, layer=layer) for plane in self._planes
        )
        known = self._layers.get(layer)
        if known is not None and known.is_of(memory, buffers):
            return known.row_set
        rows = tuple(
            host.make_rows(plane, layer, host.plane_buffer(plane), buffer)
            for plane, buffer in zip(self._planes, buffers, strict=True)
        )
        row_set = RowSet(rows=rows)
        self._layers[layer] = _Memory(host=memory, device=buffers, row_set=row_set)
        return row_set


class LayerSets:
    """The rows of the layers of a pool.

    Args:
        layers: by layer.
        host: the host pool's memory.
        device: the device pool's buffers by plane and layer.

    Attributes:
        layers: by layer.
    """

    def __init__(
        self, layers: tuple[RowSet, ...], *, host: object, device: Sequence[Sequence[torch.Tensor]]
    ) -> None:
        self.layers = layers
        self._host = host
        self._device = device
        self._spans: dict[tuple[int, int], RowSet] = {}

    def is_of(self, host: object, device: Sequence[Sequence[torch.Tensor]]) -> bool:
        """Return whether these are the rows of some buffers."""
        return self._host == host and all(map(_are_all_same, self._device, device))

    def span(self, start: int, stop: int) -> RowSet:
        """Return the rows of some layers together, the same object for the same layers."""
        if stop - start == 1:
            return self.layers[start]
        found = self._spans.get((start, stop))
        if found is None:
            rows = tuple(rows for row_set in self.layers[start:stop] for rows in row_set.rows)
            found = self._spans[start, stop] = RowSet(rows=rows)
        return found


def _are_all_same(some: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> bool:
    if len(some) != len(others):
        return False
    return all(map(is_, some, others)) or all(map(_are_same, some, others))


def _are_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    # A pool that cuts its buffers anew at each call returns other objects for the same memory.
    return one is other or (one.data_ptr() == other.data_ptr() and one.shape == other.shape)
