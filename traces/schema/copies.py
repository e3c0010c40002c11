"""The record of a copy by torch, in code that is watched by name."""

from traces.schema.record import Record, Slots


class Copy(Record, frozen=True, tag_field="event", tag="copy"):
    """A copy by torch from or to a recorded buffer.

    Attributes:
        pool: of the buffer written, else of the buffer read.
        operation: torch's name of it: ``copy_``, ``index_put_``.
        source: ``owner.name`` of the buffer read; empty for other memory.
        source_offset: of the first element, in elements from the beginning of the buffer.
        target: the same of the buffer written.
        indices: what picked elements, in the order of the operation.
        shape: of what was written.
        bytes: written.
    """

    step: str
    pool: str
    operation: str
    source: str
    source_offset: int
    target: str
    target_offset: int
    indices: tuple[Slots, ...]
    shape: tuple[int, ...]
    bytes: int
    stream: str
