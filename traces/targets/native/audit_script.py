"""Script of an audit: every buffer that can be reached takes part, listed or not.

A golden holds one round trip for each pool, over the rows that the adapter lists. An audit has one
for each kind of row, and memory that is not listed (a private attribute, a buffer of a new pool) is
written, poisoned and compared as well, wherever it has a row for every slot.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import groupby

import msgspec
from typing_extensions import override

from assembler import PoolName
from assembler.device import tensor_access
from traces.schema.model import RoundTrip
from traces.targets.common.content import poison
from traces.targets.common.planes import SlotDomain, planes_of
from traces.targets.native.round_trip import BytesByPool, ServedNode, compare_round_trips
from traces.targets.native.rows import ComponentRows
from traces.targets.native.scenarios import NativeScenario
from traces.targets.native.script import NativeScript


class EveryBufferScript(NativeScript):
    """Steps of one scenario over every buffer that can be reached from a device pool."""

    @override
    def __init__(self, scenario: NativeScenario, *, device: str) -> None:
        super().__init__(scenario, device=device)
        self._unlisted: list[ComponentRows] = []

    @override
    def _build(self) -> None:
        super()._build()
        known = {buffer.tensor.data_ptr() for rows in self._rows.values() for buffer in rows}
        for name, pool in self._pools.items():
            self._add_unlisted(name, pool, known=known)
        for wrapper in (self._device_pools.kvcache, self._device_pools.req_to_token_pool):
            self._add_unlisted(PoolName.KV, wrapper, known=known)

    @override
    def _poison(self, label: str, pools: list[object]) -> None:
        super()._poison(label, pools)
        tensors = [buffer.tensor for buffer in self._unlisted]
        accesses = tuple(tensor_access(tensor) for tensor in tensors)
        self._device.host_access(label=f"poison {label}", reads=(), writes=accesses)
        poison(tensors, f"{label}/unlisted")

    @override
    def _compare_round_trips(self, step: str, before: BytesByPool) -> Iterator[RoundTrip]:
        """Yield one round trip for each kind of row: ``KV.k``."""
        for name, buffers in self._rows.items():
            for plane, numbered in groupby(
                enumerate(buffers), key=lambda pair: (pair[1].pool, pair[1].plane)
            ):
                numbers = [number for number, _ in numbered]
                [trip] = compare_round_trips(
                    step=step,
                    rows={name: [buffers[number] for number in numbers]},
                    before=_select_buffers(before, name, numbers),
                    served=[_select_served(one, name, numbers) for one in self._served],
                )
                yield msgspec.structs.replace(trip, pool=plane[0], plane=plane[1])

    def _add_unlisted(self, name: PoolName, owner: object, *, known: set[int]) -> None:
        """Add rows that slots number and the adapter does not list."""
        listed = self._rows[name]
        slot_num = max(buffer.tensor.shape[0] * buffer.slots_per_row for buffer in listed)
        domain = SlotDomain(name=name.name, slot_num=slot_num, page_size=self._scenario.page_size)
        found = [
            ComponentRows(
                pool=buffer.pool,
                plane=buffer.plane,
                label=buffer.label,
                # Read after the last layer that is listed: by then every load has ended.
                layer=max(one.layer for one in listed),
                tensor=buffer.tensor,
                slots_per_row=buffer.slots_per_row,
                component=listed[0].component,
            )
            for plane in planes_of(name.name, owner, domain, host=None, taken=known)
            for buffer in plane.layers
        ]
        self._rows[name] = [*listed, *found]
        self._unlisted += found


def _select_buffers(snapshot: BytesByPool, name: PoolName, numbers: Sequence[int]) -> BytesByPool:
    return {name: [snapshot[name][number] for number in numbers]}


def _select_served(one: ServedNode, name: PoolName, numbers: Sequence[int]) -> ServedNode:
    content = _select_buffers(one.written.content, name, numbers)
    written = dataclasses.replace(one.written, content=content)
    return ServedNode(written=written, content=_select_buffers(one.content, name, numbers))
