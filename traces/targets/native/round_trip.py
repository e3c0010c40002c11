"""What came back after a load: the rows that were written, and nothing else changed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from assembler import PoolName
from assembler.cache.nodes import CacheNode
from assembler.names import ComponentType
from traces.schema.model import RoundTrip
from traces.schema.slot_ranges import sorted_slot_ranges
from traces.targets.common.content import RowBuffer, row_bytes, slots_of_rows

COMPONENT_OF = {
    PoolName.KV: ComponentType.FULL,
    PoolName.INDEXER: ComponentType.FULL,
    PoolName.DRAFT: ComponentType.FULL,
    PoolName.SWA: ComponentType.SWA,
    PoolName.MAMBA: ComponentType.MAMBA,
}

BuffersByPool = Mapping[PoolName, Sequence[RowBuffer]]
BytesByPool = Mapping[PoolName, Sequence[torch.Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenNode:
    """A cache node and the bytes that were written for it.

    Attributes:
        node: the node in the cache.
        slots: device slots of the full KV that the bytes were written to.
        content: by pool, the rows of each of its buffers in order of tokens.
    """

    node: CacheNode
    slots: torch.Tensor
    content: BytesByPool


def read_bytes_by_pool(rows: BuffersByPool) -> BytesByPool:
    """Return the bytes of every buffer; the device must be idle."""
    return {
        name: [row_bytes(buffer.tensor) for buffer in buffers] for name, buffers in rows.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedNode:
    """A loaded node and the bytes that a forward pass read for it.

    Attributes:
        written: the node and what was written for it.
        content: by pool, the rows of each of its buffers in order of tokens.
    """

    written: WrittenNode
    content: BytesByPool


def compare_round_trips(
    *, step: str, rows: BuffersByPool, before: BytesByPool, served: Sequence[ServedNode]
) -> Iterator[RoundTrip]:
    """Compare every row served with what was written, and every other row with ``before``.

    Args:
        step: the step to report.
        rows: device buffers by pool; the device must be idle.
        before: their bytes before the load.
        served: what was read of the nodes that should be back.
    """
    for name, buffers in rows.items():
        wrong: set[int] = set()
        foreign: set[int] = set()
        for number, buffer in enumerate(buffers):
            reads = [
                (
                    buffer.rows_of(one.written.node.device[COMPONENT_OF[name]]),
                    one.content[name][number],
                    one.written.content[name][number],
                )
                for one in served
            ]
            bad, stray = _compare(buffer, before[name][number], reads)
            wrong.update(bad.tolist())
            foreign.update(stray.tolist())
        yield RoundTrip(
            step=step,
            pool=name.name,
            equal=not wrong,
            wrong_slots=sorted_slot_ranges(wrong),
            foreign_slots=sorted_slot_ranges(foreign),
        )


def _compare(
    buffer: RowBuffer,
    before: torch.Tensor,
    reads: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the slots of rows served wrong and those of rows that should not have changed.

    Args:
        buffer: rows of one plane of one layer.
        before: its bytes before the load.
        reads: rows of each node, what was served of them, what was written to them.
    """
    is_foreign = (row_bytes(buffer.tensor) != before).any(dim=1)
    wrong: list[torch.Tensor] = []
    for at, served, written in reads:
        is_foreign[at] = False
        wrong.append(at[(served.cpu() != written).any(dim=1)])
    foreign = is_foreign.nonzero().flatten()
    return slots_of_rows(buffer, torch.cat(wrong)), slots_of_rows(buffer, foreign)
