"""Planes and layers of a set whose rows are alike, so that one launch can move them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from assembler.transfer.blocks import Blocks, Integers
from assembler.transfer.layer_rows import LayerRows
from assembler.transfer.rows import RowMap
from assembler.transfer.windows import RowWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class RowShape:
    """Numbers that the rows of a group have in common; pairs are (host, device).

    Attributes:
        row_map: which rows a slot means.
        row_bytes: bytes of a row.
        strides: bytes from one row to the next.
        row_nums: rows of each plane and layer.
    """

    row_map: RowMap
    row_bytes: int
    strides: tuple[int, int]
    row_nums: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowGroup:
    """Rows of several planes and layers.

    Attributes:
        shape: what they have in common.
        host: address of row 0 of each plane and layer in the host pool, ascending.
        device: likewise in the device pool, in the same order.
    """

    shape: RowShape
    host: Integers
    device: Integers


Item = TypeVar("Item")


def shape_of(item: tuple[LayerRows, RowWindow, RowWindow]) -> RowShape:
    """Return the shape of rows, given their windows in the host pool and in the device pool."""
    rows, host, device = item
    return RowShape(
        row_map=rows.row_map,
        row_bytes=host.row_bytes,
        strides=(host.stride_bytes, device.stride_bytes),
        row_nums=(host.row_num, device.row_num),
    )


def grouped(
    items: Iterable[Item],
    shape_of: Callable[[Item], RowShape],
    addresses_of: Callable[[Item], tuple[int, int]],
) -> tuple[RowGroup, ...]:
    """Return groups of equal shape; ``addresses_of`` returns those of row 0, host and device.

    Planes of different widths take turns in an operation; each width is one group all the same.
    """
    found: dict[RowShape, list[tuple[int, int]]] = {}
    for item in items:
        found.setdefault(shape_of(item), []).append(addresses_of(item))
    groups = []
    for shape, addresses in found.items():
        host, device = np.array(sorted(addresses), dtype=np.int64).T
        groups.append(
            RowGroup(
                shape=shape, host=np.ascontiguousarray(host), device=np.ascontiguousarray(device)
            )
        )
    return tuple(groups)


def blocks_between(
    src: tuple[Integers, Integers], dst: tuple[Integers, Integers], sizes: Integers
) -> Blocks:
    """Return the blocks of some runs of rows in every plane and layer.

    ``src`` and ``dst`` are the addresses of the planes and layers, and the runs' offsets there.
    """
    return Blocks(
        src=np.add.outer(*src).reshape(-1),
        dst=np.add.outer(*dst).reshape(-1),
        sizes=np.tile(sizes, len(src[0])),
    )


def split_where_rows_end(group: RowGroup) -> tuple[RowGroup, ...]:
    """Return the parts of a group in which a host row's planes and layers follow each other.

    Keys and values of a row lie in two buffers: then there are two parts. A group whose rows of one
    plane and layer touch stays whole.
    """
    shape = group.shape
    if shape.strides[0] == shape.row_bytes:
        return (group,)
    ends = np.flatnonzero(np.diff(group.host) != shape.row_bytes) + 1
    sides = (np.split(group.host, ends), np.split(group.device, ends))
    return tuple(
        RowGroup(shape=shape, host=host, device=device) for host, device in zip(*sides, strict=True)
    )
