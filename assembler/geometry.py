"""Row geometry: declared by device pools, computed apart by host pools, compared by validation.

A *plane* is one kind of row. MHA has the planes ``k`` and ``v``, MLA has ``kv``, the indexer
``index_k``, Mamba ``temporal``, ``conv_0``, ``conv_1`` and so on.
"""

import math
from dataclasses import dataclass

import torch

from assembler.device.base import Device
from assembler.names import PoolName


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneGeometry:
    """One kind of row.

    Attributes:
        name: plane name, unique in its pool.
        row_shape: elements of one row of one layer, without the row axis.
        dtype: type the elements are stored as.
    """

    name: str
    row_shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of one layer."""
        return math.prod(self.row_shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolGeometry:
    """All rows of one pool.

    Attributes:
        pool: the pool's name in a group.
        planes: every kind of row, in the order in which they are transferred.
        slots_per_row: slots that one row serves: 1, or more where only a group of them can move.
        layer_num: layers the pool holds.
    """

    pool: PoolName
    planes: tuple[PlaneGeometry, ...]
    slots_per_row: int
    layer_num: int

    @property
    def bytes_per_row(self) -> int:
        """Bytes of one row over all planes and layers."""
        return sum(plane.row_bytes for plane in self.planes) * self.layer_num


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLayers:
    """Layers of a pool, by their global ids.

    Attributes:
        layer_num: layers in the pool.
        start_layer: first global layer id.
        end_layer: last global layer id, inclusive.
    """

    layer_num: int
    start_layer: int
    end_layer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSlots:
    """Slots, layers and memory of a device pool, as every constructor hands them to its base.

    Attributes:
        size: usable slots.
        page_size: slots in a page.
        dtype: type the model computes with.
        layers: the layers, by global id.
        device: the accelerator that holds the buffers.
    """

    size: int
    page_size: int
    dtype: torch.dtype
    layers: PoolLayers
    device: Device
