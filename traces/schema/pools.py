"""Records of what pools answer and do when they are asked directly, beside any transfer.

A pool is named by its path in the stack: ``kv_cache`` is the pool that attention reads from,
``kv_cache.full_kv_pool`` one that it wraps, ``requests`` the request table, ``drafts[0]`` the pool
of a draft, ``host.KV`` a host pool. ``method`` is one of its public methods. ``reason`` says why a
method could not be called or did not answer, with the type of the error first; empty where it did.
"""

from typing import Any, Literal, TypeAlias

from traces.schema.record import Record, Slots

PageUse: TypeAlias = Literal["read", "write", "describe"]


class ByteRange(Record, frozen=True):
    """A piece of one buffer.

    Attributes:
        buffer: attribute path in the pool; empty for memory of no known buffer.
        first: offset of its first byte in the buffer; 0 for an unknown buffer.
        bytes: its length.
    """

    buffer: str
    first: int
    bytes: int


class ExportedBuffer(Record, frozen=True):
    """A pointer that leaves the instance, with its lengths.

    Attributes:
        pool: whose rows it points to; empty for memory that no slots number.
        plane: kind of the rows, or the attribute path of the buffer; empty for unknown memory.
        layer: index in the pool; None where the memory is no layer's.
        layers: number of layers of the plane; 0 where the memory is no layer's.
        offset: bytes from the first row of the layer to the pointer.
        bytes: length given out.
        item_bytes: length of one item given out.
        held_bytes: bytes from the pointer to the end of the layer's rows.
        page_bytes: bytes that a page of slots has in the layer; 0 where no slots number the memory.
    """

    pool: str
    plane: str
    layer: int | None
    layers: int
    offset: int
    bytes: int
    item_bytes: int
    held_bytes: int
    page_bytes: int


class RankSlices(Record, frozen=True):
    """Slices between two numbers of ranks: whether every receiving rank gets its own items.

    Attributes:
        sources: number of sending ranks.
        targets: number of receiving ranks.
        items: heads, channels or bytes that each receiving rank holds.
        missing: places of all receiving ranks that no sending rank fills.
        wrong: places that get another item than theirs, two different ones, or lie outside.
        ranks: receiving ranks that have such places.
    """

    sources: int
    targets: int
    items: int
    missing: int
    wrong: int
    ranks: Slots


class PoolAnswer(Record, frozen=True, tag_field="digest", tag="pool_answer"):
    """The answer of a method that needs no argument: buffers that leave the instance, or numbers.

    Attributes:
        buffers: the pointers that it answers with two lengths each, in its order.
        views: the tensors that it answers, in its order.
        values: what else it answers, plain numbers; None for nothing else.
        slices: what receiving ranks get of a method that slices between numbers of ranks.
    """

    step: str
    holder: str
    method: str
    buffers: tuple[ExportedBuffer, ...]
    views: tuple[ByteRange, ...]
    values: Any
    reason: str
    slices: tuple[RankSlices, ...] = ()


class PoolAccessor(Record, frozen=True, tag_field="digest", tag="accessor"):
    """An accessor of a pool, called for every layer while a load was on its way.

    Attributes:
        planes: the rows that it handed out, ``KV.k_buffer``, in its order; empty for none.
        layers: indices in the pool of the layers whose rows it handed out.
        stream: stream of its own on which it was called.
        read: whether the rows were read on it too; a ``Reading`` says with which result.
        waited: whether that stream waited for any event.
    """

    step: str
    holder: str
    method: str
    planes: tuple[str, ...]
    layers: Slots
    stream: str
    read: bool
    waited: bool
    reason: str


class PageAccess(Record, frozen=True, tag_field="digest", tag="page_access"):
    """The bytes of a host pool's pages that a method reads, writes or describes.

    Attributes:
        use: ``describe`` for a method that answers pointers and lengths.
        pages: number of pages it was called for, all of the pool.
        page_bytes: bytes of one page.
        first: the bytes of the first page, in the method's order, neighbours merged.
        order: digest over the bytes of all pages in their order, then over those that it describes
            for all pages at once, where these are others.
        missing_bytes: bytes of pages that were backed up, which it leaves out of them; and of all
            pages, which it leaves out when it is asked for all at once.
        foreign_bytes: bytes that it counts to such a page though its backup did not write them; and
            those that it has only when it is asked for all at once.
        shared_bytes: bytes that it counts to two pages.
    """

    step: str
    holder: str
    method: str
    use: PageUse
    pages: int
    page_bytes: int
    first: tuple[ByteRange, ...]
    order: str
    missing_bytes: int
    foreign_bytes: int
    shared_bytes: int
    reason: str


class SlotOperation(Record, frozen=True, tag_field="digest", tag="slot_operation"):
    """Effect of an operation on slots, such as a copy, on what belongs to these slots.

    Attributes:
        subject: a plane, ``MAMBA.temporal``, or the method by which an object was registered with
            the pool: ``register_slot_state``.
        is_plane: whether the subject is a plane.
        carried: whether it took the rows of the plane along, or called the object.
        calls: methods of the object that it called; empty for a plane.
    """

    step: str
    holder: str
    method: str
    subject: str
    is_plane: bool
    carried: bool
    calls: tuple[str, ...]
    reason: str


class HostCopy(Record, frozen=True, tag_field="digest", tag="host_copy"):
    """A copy of slots to the host and back into others, while other streams used both.

    The host read the copy as soon as the first method returned, and a stream the loaded rows as
    soon as the second one did.

    Attributes:
        method: makes the copy: ``get_cpu_copy``.
        loads: loads it: ``load_cpu_copy``.
        streams: streams of their own on which the two were called.
        planes: the planes whose rows all came back, ``KV.k_buffer``, in order of names.
    """

    step: str
    holder: str
    method: str
    loads: str
    streams: tuple[str, str]
    planes: tuple[str, ...]
    reason: str


class WrittenRows(Record, frozen=True):
    """Rows of one plane that a call changed.

    Attributes:
        plane: ``KV.k_buffer``.
        layers: indices in the pool of the layers in which rows changed.
        slots: slots of these rows, of all layers together.
        content: digest over the bytes of these rows, layer by layer.
    """

    plane: str
    layers: Slots
    slots: Slots
    content: str


class RowWrite(Record, frozen=True, tag_field="digest", tag="row_write"):
    """A setter of a pool, called for every layer with rows of a few slots.

    Attributes:
        rows: what it wrote, plane by plane.
        unknown: a parameter for which no argument could be made, so that it was not called; empty
            for none.
    """

    step: str
    holder: str
    method: str
    rows: tuple[WrittenRows, ...]
    unknown: str
    reason: str


PoolRecord: TypeAlias = PoolAnswer | PoolAccessor | PageAccess | SlotOperation | HostCopy | RowWrite
