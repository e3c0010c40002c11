"""Streams and events of the simulated device."""

import torch
from typing_extensions import override

from assembler.device.base import Event, Stream
from traces.simulator.ordering import StreamOrder
from traces.simulator.queues import EventMark, StreamQueue


class SimStream(Stream):
    """A stream of a simulated device; it waits for other streams through events only.

    Args:
        name: role of the stream.
        order: of the device; tells its streams from those of others.
        queue: the stream's work.
    """

    def __init__(self, *, name: str, order: StreamOrder, queue: StreamQueue) -> None:
        super().__init__(name=name)
        self.order = order
        self.queue = queue

    @override
    def hold(self, tensor: torch.Tensor) -> None:
        # Queued work refers to its tensors, so their memory cannot be reused before it is done.
        # On a GPU the caching allocator would reuse it without record_stream.
        del tensor

    @override
    def _wait_event(self, event: Event) -> None:
        self.order.enqueue_wait(self.queue, require_event(event, self.order))

    @override
    def _synchronize(self) -> None:
        self.order.synchronize_queue(self.queue)


class SimEvent(Event):
    """An event of a simulated device.

    Args:
        name: what the event marks.
        order: of the device whose streams can record it.

    Attributes:
        mark: the latest recording; None before the first.
    """

    def __init__(self, *, name: str, order: StreamOrder) -> None:
        super().__init__(name=name)
        self.order = order
        self.mark: EventMark | None = None

    @override
    def _record(self, stream: Stream) -> None:
        self.order.enqueue_mark(require_stream(stream, self.order).queue, self)

    @override
    def _query(self) -> bool:
        return self.order.query_event(self)

    @override
    def _synchronize(self) -> None:
        self.order.synchronize_event(self)


def require_stream(stream: Stream, order: StreamOrder) -> SimStream:
    """Return ``stream`` as a stream of the device that ``order`` belongs to.

    Raises:
        TypeError: it belongs to another device.
    """
    if not isinstance(stream, SimStream) or stream.order is not order:
        raise TypeError(f"stream: must belong to the device; expected its SimStream, got {stream}")
    return stream


def require_event(event: Event, order: StreamOrder) -> SimEvent:
    """Return ``event`` as an event of the device that ``order`` belongs to.

    Raises:
        TypeError: it belongs to another device.
    """
    if not isinstance(event, SimEvent) or event.order is not order:
        raise TypeError(f"event: must belong to the device; expected its SimEvent, got {event}")
    return event
