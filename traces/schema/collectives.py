"""The record of a collective operation of a process group."""

from traces.schema.record import Record


class Collective(Record, frozen=True, tag_field="event", tag="collective"):
    """A collective or point-to-point operation that one rank takes part in.

    Attributes:
        operation: name of the function in ``torch.distributed``: ``all_reduce``; of one that goes
            on in the background also ``isend waited for``.
        reduction: ``MIN``, ``SUM``; empty for an operation that reduces nothing.
        group: role of the process group: ``attn_tp``; empty for the default group.
        ranks: global ranks of its members, in group order.
        rank: place of this process among them.
        peer: global rank that sends to the others, or that is sent to; None for none.
        dtype: of the tensor; empty for objects, and where there are no data.
        shape: of the tensor; empty likewise.
    """

    step: str
    operation: str
    reduction: str
    group: str
    ranks: tuple[int, ...]
    rank: int
    peer: int | None
    dtype: str
    shape: tuple[int, ...]
