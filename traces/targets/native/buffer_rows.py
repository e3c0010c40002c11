"""The rows of a native pool's buffers: plane, layer, bytes and slots of each, by address."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from assembler.host_pools.base import HostKVCache
from traces.recording.probes import BufferRows, RowLookup


def host_rows(pool: Any) -> RowLookup:  # noqa: ANN401 - the recorder knows no class of pool
    """Return the rows of a host pool's buffers, each of which holds all layers of a plane."""
    assert isinstance(pool, HostKVCache)
    table: dict[int, BufferRows] = {}
    addresses: dict[int, int] = {}
    for plane in pool.planes:
        buffer = pool.plane_buffer(plane.name)
        # Planes of equal width may lie in one buffer, one behind the other.
        address = addresses.setdefault(buffer.untyped_storage().data_ptr(), buffer.data_ptr())
        before = table.get(address)
        table[address] = BufferRows(
            pool="",
            planes=(*(before.planes if before else ()), plane.name),
            layer=None,
            layer_num=pool.layer_num,
            row_bytes=plane.row_bytes,
            slots_per_row=pool.slots_per_row,
        )
    return table.get


def device_rows(pool: Any) -> RowLookup:  # noqa: ANN401 - the recorder knows no class of pool
    """Return the rows of a device pool's buffers.

    The first rows that a pool declares are its own; others are of pools that mirror a part.
    """
    table: dict[int, BufferRows] = {}
    # Code under guard may declare what it does not have: then the rows are not known.
    with contextlib.suppress(Exception):
        for number, declared in enumerate(pool.mirrored()):
            geometry = declared.geometry
            owner = geometry.pool.name if number else ""
            for plane in geometry.planes:
                layers = declared.plane_buffers(plane.name)
                for address, layer in _first_addresses(layers):
                    table[address] = BufferRows(
                        pool=owner,
                        planes=(plane.name,),
                        layer=layer,
                        layer_num=len(layers) if layer is None else 1,
                        row_bytes=layers[0][0].nbytes,
                        slots_per_row=geometry.slots_per_row,
                    )
    return table.get


def _first_addresses(layers: Sequence[torch.Tensor]) -> Iterator[tuple[int, int | None]]:
    """Yield the address of each buffer with its layer; None where one buffer holds them all."""
    storages = {layer.untyped_storage().data_ptr() for layer in layers}
    if len(storages) < len(layers):
        yield layers[0].data_ptr(), None
    else:
        yield from ((layer.data_ptr(), number) for number, layer in enumerate(layers))
