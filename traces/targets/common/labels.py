"""Labels for people that carry, as fields, the facts that records of races need.

A label travels through the device to the race detector as the plain text it is; nothing has to read
the text again.
"""

from dataclasses import dataclass

from traces.schema.races import Race, RaceAccess
from traces.simulator.memory import MemoryKind
from traces.simulator.races import AccessKind, Accessor, DetectedRace

ATTENTION = "attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferPlace:
    """A buffer of a device pool.

    Attributes:
        buffer: attribute path in the pool without the number of the layer: ``kv_buffer``.
        layer: index in the pool; None where the buffer holds all layers.
    """

    pool: str
    buffer: str
    layer: int | None


class BufferLabel(str):
    """Name of a buffer, with its place."""

    __slots__ = ("place",)
    place: BufferPlace | None

    def __new__(cls, text: str, *, place: BufferPlace | None) -> "BufferLabel":
        """Return the label for ``text``."""
        label = super().__new__(cls, text)
        label.place = place
        return label


class OperationLabel(str):
    """Name of an operation, with what it does and where.

    Attributes:
        operation: ``backup``, ``load``, ``attention`` or a name of its own.
        place: device buffer that it is about; None for other memory.
        accessor: accessor that handed out what attention reads; empty for none.
    """

    __slots__ = ("accessor", "operation", "place")
    operation: str
    place: BufferPlace | None
    accessor: str

    def __new__(
        cls, text: str, *, operation: str, place: BufferPlace | None, accessor: str = ""
    ) -> "OperationLabel":
        """Return the label for ``text``."""
        label = super().__new__(cls, text)
        label.operation, label.place, label.accessor = operation, place, accessor
        return label


def place_of(label: str) -> BufferPlace | None:
    """Return the place that a label carries; None for plain text."""
    return label.place if isinstance(label, BufferLabel | OperationLabel) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRace:
    """A race of the simulated device, as it is recorded.

    Attributes:
        record: of no step yet.
        sites: the lines that launched its two accesses, innermost first, the second access first.
    """

    record: Race
    sites: tuple[tuple[str, int], ...]


def found_race(race: DetectedRace, *, place: BufferPlace | None = None) -> FoundRace:
    """Return a race with its record and lines. Streams are not named: they are handles.

    ``place`` is the buffer that both touch, where it is known by its memory.
    """
    first, second = race.first, race.second
    # What attention touches is known by its rows; other labels by the buffer that was named first.
    labels = sorted((first.label, second.label), key=lambda label: not _is_attention(label))
    place = place or place_of(labels[0]) or place_of(labels[1])
    record = Race(
        step="",
        pool=place.pool if place else "",
        buffer=place.buffer if place else "",
        layer=place.layer if place else None,
        first=_access(first, race.first_kind),
        second=_access(second, race.second_kind),
        text=f"{first.label} on {first.timeline.kind} and {second.label} on {second.timeline.kind}",
    )
    return FoundRace(record=record, sites=(*second.site.frames, *first.site.frames))


def _is_attention(label: str) -> bool:
    return isinstance(label, OperationLabel) and label.operation == ATTENTION


def _access(accessor: Accessor, access: AccessKind) -> RaceAccess:
    label = accessor.label
    named = label if isinstance(label, OperationLabel) else None
    return RaceAccess(
        operation=_operation(accessor) if named is None else named.operation,
        accessor="" if named is None else named.accessor,
        on=accessor.timeline.kind,
        access=access,
    )


def _operation(accessor: Accessor) -> str:
    """Return what an operation does by the memory that it reads and writes."""
    reads_host, writes_host = (
        kinds - {MemoryKind.DEVICE} for kinds in (accessor.reads, accessor.writes)
    )
    if MemoryKind.DEVICE in accessor.reads and writes_host:
        return "backup"
    if MemoryKind.DEVICE in accessor.writes and reads_host:
        return "load"
    return f"{accessor.timeline.kind} work"
