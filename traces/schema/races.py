"""Races: two accesses to the same bytes that nothing orders."""

from typing import Literal, TypeAlias

from traces.schema.record import Record

AccessKind: TypeAlias = Literal["read", "write"]


class RaceAccess(Record, frozen=True):
    """One of the two accesses of a race.

    Attributes:
        operation: ``backup``, ``load``, ``attention``; ``host work`` or ``stream work`` for what
            is known by no more than where it runs; or torch's name of it.
        accessor: accessor of the pool through which attention reads; empty for none.
        on: whether a stream did it or the host.
        access: what it does to the bytes.
    """

    operation: str
    accessor: str
    on: Literal["stream", "host"]
    access: AccessKind


class Race(Record, frozen=True, tag_field="event", tag="race"):
    """Two accesses to the same bytes that nothing orders, as the simulated device found them.

    Attributes:
        pool: device pool they touch; empty for other memory.
        buffer: attribute path in the pool without the number of the layer; empty for other memory.
        layer: index of the layer; None for all layers, or for other memory.
        first: what the program launched first.
        second: what it launched second.
        text: both, for people.
    """

    step: str
    pool: str
    buffer: str
    layer: int | None
    first: RaceAccess
    second: RaceAccess
    text: str
