"""Interface between a target and the recorder: probes, observations, views of pools.

A probe is one function object. :class:`CallProbe` records every call with its arguments; the
functions of an :class:`EventProbe` run thousands of times, and each call gives one observation.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from traces.schema.model import Direction, Part, PoolSide, Role
from traces.schema.storage_records import StorageOperation

if TYPE_CHECKING:
    import torch

    from traces.recording.encode import Encoder

Values: TypeAlias = Mapping[str, Any]
"""Bound parameters of one call, defaults filled in, ``self`` included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolNaming:
    """The name of a pool: ``holder`` is called ``pool`` (``KV``) on one side."""

    side: PoolSide
    pool: str
    holder: object


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferPath:
    """The way from a pool to one of its buffers.

    Attributes:
        text: ``k_buffer[3]``.
        attribute: without the places in lists: ``k_buffer``.
        index: the places in lists, outermost first.
    """

    text: str
    attribute: str
    index: tuple[int, ...] = ()

    @classmethod
    def of(cls, attribute: str) -> "BufferPath":
        """Return the path of an attribute of the pool itself."""
        return cls(text=attribute, attribute=attribute)

    def member(self, name: str) -> "BufferPath":
        """Return the path of an attribute of what is here."""
        text, attribute = f"{self.text}.{name}", f"{self.attribute}.{name}"
        return BufferPath(text=text, attribute=attribute, index=self.index)

    def item(self, key: int | str) -> "BufferPath":
        """Return the path of an item of the list or mapping that is here."""
        text = f"{self.text}[{key!r}]"
        if isinstance(key, int):
            return BufferPath(text=text, attribute=self.attribute, index=(*self.index, key))
        return BufferPath(text=text, attribute=f"{self.attribute}[{key!r}]", index=self.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferRows:
    """The rows of one buffer.

    Attributes:
        pool: whose rows they are; empty for the pool that owns the buffer.
        planes: their kinds, as transfers name them; several where they lie in one buffer.
        layer: index in the pool; None where the buffer holds all layers.
        layer_num: number of layers whose rows it holds; 0 where that is not known.
        row_bytes: bytes of one row of one plane and layer.
        slots_per_row: slots that share a row.
    """

    pool: str
    planes: tuple[str, ...]
    layer: int | None
    layer_num: int
    row_bytes: int
    slots_per_row: int


RowLookup: TypeAlias = Callable[[int], BufferRows | None]
"""Returns the rows of the buffer at an address; asked when the recording ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """Instructions for reading the buffers of a pool.

    Attributes:
        layout: host layout; empty on the device side.
        is_pinned: whether a buffer lies in page-locked memory.
        tensors: yields the buffers with their paths; None for every public tensor attribute.
        rows: returns a lookup of the rows of the pool's buffers; None where slots number none.
        keeps_tensors: whether the pool holds the very tensor objects that ``tensors`` yields; their
            memory is free when they are gone, else when the pool is.
    """

    side: PoolSide
    layout: str
    is_pinned: Callable[["torch.Tensor"], bool]
    tensors: Callable[[object], Iterable[tuple[BufferPath, "torch.Tensor"]]] | None = None
    rows: Callable[[object], RowLookup] | None = None
    keeps_tensors: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferObservation:
    """Rows of one plane of one layer were copied between a device pool and ``host_pool``.

    Attributes:
        device_pool: name of the pool whose rows they are on the device; None where it is that of
            the host pool.
        rows: rows of the device buffer that ``device_slots`` mean.
    """

    direction: Direction
    host_pool: object
    device_pool: str | None
    plane: str
    layer: int
    device_slots: "torch.Tensor"
    host_slots: "torch.Tensor"
    rows: int
    bytes: int
    backend: str
    stream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocationObservation:
    """A request for ``need`` slots of a pool; ``slots`` is None when it had too few."""

    pool: object
    need: int
    slots: "torch.Tensor | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseObservation:
    """Slots of a pool were given back."""

    pool: object
    slots: "torch.Tensor"


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageObservation:
    """An access to the storage tier; see :class:`~traces.schema.model.StorageAccess`."""

    operation: StorageOperation
    pool: str
    key: str
    bytes: int
    backend: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecordObservation:
    """A device event was recorded on a stream."""

    event: object
    name: str
    stream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventWaitObservation:
    """A stream, or ``host``, waits: for an event, or (None) for all work of the stream ``name``."""

    event: object | None
    name: str
    stream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWaitObservation:
    """The host waits for all work of a device, while it launches on ``stream``."""

    stream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyObservation:
    """torch copied elements from one tensor into another.

    Attributes:
        operation: torch's name of it: ``copy_``, ``index_put_``.
        indices: what picks elements, in the order of the operation.
        stream: on which it was launched.
    """

    operation: str
    source: "torch.Tensor"
    target: "torch.Tensor"
    indices: "tuple[torch.Tensor, ...]"
    stream: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupNaming:
    """A process group by its role, the global ranks of its members and the own place in it."""

    role: str
    ranks: tuple[int, ...]
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveObservation:
    """A rank takes part in an operation; see :class:`~traces.schema.collectives.Collective`."""

    operation: str
    reduction: str
    group: GroupNaming
    peer: int | None
    dtype: str
    shape: tuple[int, ...]


NamedObservation: TypeAlias = (
    TransferObservation
    | CollectiveObservation
    | AllocationObservation
    | ReleaseObservation
    | StorageObservation
    | EventRecordObservation
    | EventWaitObservation
    | DeviceWaitObservation
)
"""An observation that is always an event; a copy is one only where it touches a known buffer."""

Observation: TypeAlias = NamedObservation | CopyObservation


@dataclass(frozen=True, slots=True, kw_only=True)
class CallProbe:
    """A function whose every call is recorded with all its arguments.

    A call that a method makes to the method it overrides, on the same object, is no call of its
    own: a constructor is recorded once an object, with what the caller gave.

    Attributes:
        function: the function to watch.
        callee: ``build_kv_only_stack``, ``HybridCacheController.write``; for a method the class is
            replaced by that of the object.
        part: what the function makes or belongs to, see :class:`~traces.schema.model.Call`.
        method: name of the method, ``__init__`` for a constructor; empty for a plain function.
        names_pools: returns the names of pools that a successful call has given.
        shows_subject: whether the object of a method is recorded as its argument ``self``, and its
            buffers are read again when the call is over.
    """

    function: FunctionType
    callee: str
    role: Role
    method: str
    names_pools: Callable[[Values], Iterable[PoolNaming]] | None
    shows_subject: bool = False
    part: Part = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventProbe:
    """A function whose calls are reduced to observations.

    Attributes:
        function: the function to watch.
        family: probes of one family are told apart from no others by ``nesting``.
        nesting: ``every`` call counts; only the ``outermost`` of nested calls; only the
            ``innermost`` (an allocator made of allocators is not counted beside its parts).
        observe: reads the bound parameters and the result; one observation, several in their order,
            or None.
    """

    function: FunctionType
    family: str
    nesting: Literal["every", "outermost", "innermost"]
    observe: Callable[[Values, Any], Observation | tuple[Observation, ...] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyProbe:
    """Request for torch's copies from and to recorded buffers.

    Attributes:
        stream_of: returns the name of the stream that work on a tensor is launched on.
    """

    stream_of: Callable[["torch.Tensor"], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadProbe:
    """Request for calls and events thread by thread, threads in the order of their start.

    The order in which threads really ran is another one in every run.

    Attributes:
        role_of: returns the role of a thread: threads of one role count as one.
    """

    role_of: Callable[[threading.Thread], str] | None = None


Probe: TypeAlias = CallProbe | EventProbe | CopyProbe | ThreadProbe
"""A target has at most one probe for copies and one for threads."""


class Target(Protocol):
    """Code under guard, as the recorder sees it."""

    @property
    def name(self) -> str:
        """Name for users: ``native``."""

    @property
    def package(self) -> str:
        """Import name; warnings and log records of this package become messages."""

    @property
    def root(self) -> Path:
        """Directory that holds the package; source places are relative to it."""

    def probes(self) -> Sequence[Probe]:
        """Return everything to watch, each function once."""

    def builders(self) -> tuple[str, ...]:
        """Return the names of all stack builders, sorted."""

    def register_types(self, encoder: "Encoder") -> None:
        """Register the target's own types."""

    def view(self, pool: object) -> PoolView | None:
        """Return the view of ``pool``; None when it is no pool."""
