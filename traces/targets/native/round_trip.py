"""Round trips of cache nodes: bytes written, bytes served after a load, and their comparison."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from assembler import PoolName
from assembler.cache.keys import RadixKey
from assembler.cache.nodes import CacheNode
from assembler.names import ComponentType
from traces.schema.model import RoundTrip
from traces.targets.common.content import row_bytes
from traces.targets.common.round_trip import RoundTripComparison
from traces.targets.native.rows import ComponentRows

BuffersByPool = Mapping[PoolName, Sequence[ComponentRows]]
BytesByPool = Mapping[PoolName, Sequence[torch.Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenNode:
    """A cache node and the bytes that were written for it.

    Attributes:
        key: its tokens, with those of the nodes before it.
        slots: device slots of the full KV that the bytes were written to.
        content: by pool, the rows of each of its buffers in order of tokens.
    """

    key: RadixKey
    node: CacheNode
    slots: torch.Tensor
    content: BytesByPool

    def device_slots(self, component: ComponentType) -> torch.Tensor:
        """Return the device slots of a component, of the nodes before this one too.

        Window slots are those of the last tokens, as far as the device has them.
        """
        if component is ComponentType.MAMBA:
            return self.node.device[component]
        parts = [node.device.get(component) for node in self.node.path()]
        kept: list[torch.Tensor] = []
        for part in reversed(parts):
            if part is None:
                break
            kept.append(part)
        return torch.cat(kept[::-1])


def read_bytes_by_pool(rows: BuffersByPool) -> BytesByPool:
    """Return the bytes of every buffer; the device must be idle."""
    return {
        name: [row_bytes(buffer.tensor) for buffer in buffers] for name, buffers in rows.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedNode:
    """A loaded node and the bytes that a forward pass read for it, as those written."""

    written: WrittenNode
    content: BytesByPool


def compare_round_trips(
    *, step: str, rows: BuffersByPool, before: BytesByPool, served: Sequence[ServedNode]
) -> Iterator[RoundTrip]:
    """Compare every row served with what was written, and every other row with ``before``.

    The device must be idle; ``before`` are the bytes of all ``rows`` before the load, ``served``
    those that were read of the loaded nodes.
    """
    for name, buffers in rows.items():
        comparison = RoundTripComparison()
        for number, (buffer, old) in enumerate(zip(buffers, before[name], strict=True)):
            loaded = []
            for one in served:
                got, written = one.content[name][number], one.written.content[name][number]
                own = buffer.rows_of(one.written.device_slots(buffer.component))
                last = written[len(written) - len(own) :]
                comparison.compare_rows(buffer, own, served=got.cpu(), written=last)
                loaded.append(own)
            comparison.compare_rest(buffer, old, loaded=loaded)
        yield comparison.record(step=step, pool=name.name, plane="")
