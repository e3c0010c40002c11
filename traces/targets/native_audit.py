"""The native stage for an audit: every buffer that can be reached takes part, listed or not.

What a scenario records for its golden is one round trip a pool, over the rows that the adapter
knows. Here each kind of row has its own, and memory that nobody listed - a private attribute, a
buffer of a new pool - is written, poisoned and compared with the rest wherever it has a row for
every slot.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import msgspec
from typing_extensions import override

from assembler import PoolName
from assembler.accelerator import whole
from traces.model import RoundTrip
from traces.scenarios import Scenario
from traces.targets.content import RowBuffer, poison
from traces.targets.native_round_trip import Served, Snapshot, Written, round_trips
from traces.targets.native_stage import NativeStage
from traces.targets.sglang.rows import Domain, planes_of


class EveryBufferStage(NativeStage):
    """Plays the steps of one scenario on every buffer that can be reached from a device pool."""

    @override
    def __init__(self, scenario: Scenario, *, device: str) -> None:
        super().__init__(scenario, device=device)
        self._unlisted: list[RowBuffer] = []

    @override
    def _build(self) -> None:
        super()._build()
        known = {buffer.tensor.data_ptr() for rows in self._rows.values() for buffer in rows}
        for name, pool in self._pools.items():
            self._add_unlisted(name, pool, known=known)
        for wrapper in (self._side.kvcache, self._side.req_to_token_pool):
            self._add_unlisted(PoolName.KV, wrapper, known=known)

    @override
    def _poison(self, label: str, pools: list[object]) -> None:
        super()._poison(label, pools)
        tensors = [buffer.tensor for buffer in self._unlisted]
        accesses = tuple(whole(tensor) for tensor in tensors)
        self._device.host_access(label=f"poison {label}", reads=(), writes=accesses)
        poison(tensors, f"{label}/unlisted")

    @override
    def _compared(self, step: str, before: Snapshot) -> Iterator[RoundTrip]:
        """Yield one round trip for each kind of row: ``KV.k``."""
        for name, buffers in self._rows.items():
            for plane, numbered in groupby(enumerate(buffers), key=lambda pair: _plane(pair[1])):
                numbers = [number for number, _ in numbered]
                [trip] = round_trips(
                    step=step,
                    rows={name: [buffers[number] for number in numbers]},
                    before=_only(before, name, numbers),
                    served=[_served(one, name, numbers) for one in self._served],
                )
                yield msgspec.structs.replace(trip, pool=plane)

    def _add_unlisted(self, name: PoolName, owner: object, *, known: set[int]) -> None:
        """Let rows that slots number and the adapter does not know take part."""
        listed = self._rows[name]
        slot_num = max(buffer.tensor.shape[0] * buffer.slots_per_row for buffer in listed)
        domain = Domain(name=name.name, slot_num=slot_num, page_size=self._scenario.page_size)
        found = [
            # The layer only says when they are read: whatever loads them has come to its end.
            replace(buffer, layer=max(one.layer for one in listed))
            for plane in planes_of(name.name, owner, domain, host=None, taken=known)
            for buffer in plane.layers
        ]
        self._rows[name] = [*listed, *found]
        self._unlisted += found


def _plane(buffer: RowBuffer) -> str:
    return buffer.label.partition("[")[0]


def _only(snapshot: Snapshot, name: PoolName, numbers: Sequence[int]) -> Snapshot:
    return {name: [snapshot[name][number] for number in numbers]}


def _served(one: Served, name: PoolName, numbers: Sequence[int]) -> Served:
    written = Written(
        node=one.written.node,
        slots=one.written.slots,
        content=_only(one.written.content, name, numbers),
    )
    return Served(written=written, content=_only(one.content, name, numbers))
