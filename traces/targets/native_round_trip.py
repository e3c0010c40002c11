"""What came back after a load: the rows that were written, and nothing else changed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from assembler import PoolName
from assembler.cache.nodes import CacheNode
from assembler.names import ComponentType
from traces.encode import slot_runs
from traces.model import RoundTrip
from traces.targets.content import RowBuffer, row_bytes, slots_of_rows

COMPONENT_OF = {
    PoolName.KV: ComponentType.FULL,
    PoolName.INDEXER: ComponentType.FULL,
    PoolName.DRAFT: ComponentType.FULL,
    PoolName.SWA: ComponentType.SWA,
    PoolName.MAMBA: ComponentType.MAMBA,
}

Rows = Mapping[PoolName, Sequence[RowBuffer]]
Snapshot = Mapping[PoolName, Sequence[torch.Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A cache node and the bytes that were written for it.

    Attributes:
        node: the node in the cache.
        slots: device slots of the full KV that the bytes were written to.
        content: by pool, the rows of each of its buffers in order of tokens.
    """

    node: CacheNode
    slots: torch.Tensor
    content: Snapshot


def snapshot(rows: Rows) -> Snapshot:
    """Return the bytes of every buffer; the device must be idle."""
    return {
        name: [row_bytes(buffer.tensor) for buffer in buffers] for name, buffers in rows.items()
    }


def round_trips(
    *, step: str, rows: Rows, before: Snapshot, loaded: Sequence[Written]
) -> Iterator[RoundTrip]:
    """Compare every loaded row with what was written, and every other row with ``before``.

    Args:
        step: the step to report.
        rows: device buffers by pool; the device must be idle.
        before: their bytes before the load.
        loaded: the nodes that should be back, where their ``device`` slots say.
    """
    for name, buffers in rows.items():
        wrong: set[int] = set()
        foreign: set[int] = set()
        for number, buffer in enumerate(buffers):
            places = [
                (buffer.rows_of(written.node.device[COMPONENT_OF[name]]), written.content[name])
                for written in loaded
            ]
            expected = [(at, content[number]) for at, content in places]
            bad, stray = _compare(buffer, before[name][number], expected)
            wrong.update(bad.tolist())
            foreign.update(stray.tolist())
        yield RoundTrip(
            step=step,
            pool=name.name,
            equal=not wrong,
            wrong_slots=_runs(wrong),
            foreign_slots=_runs(foreign),
        )


def _compare(
    buffer: RowBuffer, before: torch.Tensor, expected: Sequence[tuple[torch.Tensor, torch.Tensor]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the slots of wrong rows and those of rows that should not have changed."""
    after = row_bytes(buffer.tensor)
    is_foreign = (after != before).any(dim=1)
    wrong: list[torch.Tensor] = []
    for at, content in expected:
        is_foreign[at] = False
        wrong.append(at[(after[at] != content).any(dim=1)])
    foreign = is_foreign.nonzero().flatten()
    return slots_of_rows(buffer, torch.cat(wrong)), slots_of_rows(buffer, foreign)


def _runs(slots: set[int]) -> str:
    return slot_runs(torch.tensor(sorted(slots), dtype=torch.int64))
