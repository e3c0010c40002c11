"""Labels for people that carry, as fields, the facts that records of races need.

A label travels through the device to the race detector as the plain text it is; nothing has to read
the text again.
"""

from dataclasses import dataclass

from traces.schema.model import Race, RaceAccess
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


def race_record(race: DetectedRace) -> Race:
    """Return the record of a race, of no step yet. Streams are not named: they are handles."""
    first, second = race.first, race.second
    # What attention touches is known by its rows; other labels by the buffer that was named first.
    labels = sorted((first.label, second.label), key=lambda label: not _is_attention(label))
    place = place_of(labels[0]) or place_of(labels[1])
    return Race(
        step="",
        pool=place.pool if place else "",
        buffer=place.buffer if place else "",
        layer=place.layer if place else None,
        first=_access(first, race.first_kind),
        second=_access(second, race.second_kind),
        text=f"{first.label} on {first.timeline.kind} and {second.label} on {second.timeline.kind}",
    )


def _is_attention(label: str) -> bool:
    return isinstance(label, OperationLabel) and label.operation == ATTENTION


def _access(accessor: Accessor, access: AccessKind) -> RaceAccess:
    label = accessor.label
    if not isinstance(label, OperationLabel):
        label = OperationLabel(label, operation=label, place=None)
    return RaceAccess(
        operation=label.operation, accessor=label.accessor, on=accessor.timeline.kind, access=access
    )
