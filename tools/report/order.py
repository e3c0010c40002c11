"""Order of a trace's events: the stream that each belongs to, and the happens-before edges."""

from collections.abc import Iterator
from dataclasses import dataclass

from traces.schema.device_waits import DeviceAwaited
from traces.schema.model import HOST, Event, EventAwaited, EventRecorded


@dataclass(frozen=True, slots=True)
class OrderEdge:
    """A happens-before edge between two streams, or between a stream and the host.

    Attributes:
        source: position of the event that comes first: the record of a device event, or the last
            work of a stream that is waited for as a whole.
        target: position of the wait.
        name: of the device event, or ``stream:`` and the name of the stream.
    """

    source: int
    target: int
    name: str


def stream_of(event: Event) -> str:
    """Return the stream of an event; for one of the host, ``HOST``."""
    return HOST if isinstance(event, DeviceAwaited) else getattr(event, "stream", HOST)


def order_edges(events: tuple[Event, ...]) -> Iterator[OrderEdge]:
    """Yield an edge for each wait, in the order of the waits; for the device, one a stream.

    A wait for something that has not happened has no edge: an event that was never recorded, or a
    stream without work.
    """
    latest: dict[str, int] = {}
    for position, event in enumerate(events):
        match event:
            case EventAwaited(name=name) if name in latest:
                yield OrderEdge(latest[name], position, name)
            case DeviceAwaited():
                for name, source in latest.items():
                    if name.startswith(_STREAM):
                        yield OrderEdge(source, position, name)
            case EventRecorded(name=name):
                latest[name] = position
            case _:
                pass
        if (stream := stream_of(event)) != HOST:
            latest[_STREAM + stream] = position


# An awaited stream is named so by the recorder; names of events end in a number.
_STREAM = "stream:"
