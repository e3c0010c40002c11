"""Streams and events of the simulated accelerator."""

from typing import TYPE_CHECKING

import torch
from typing_extensions import override

from assembler.device.base import Event, Stream
from traces.simulator.queues import EventMark, StreamQueue

if TYPE_CHECKING:
    from traces.simulator.device import SimDevice


class SimStream(Stream):
    """A stream of a simulated device; no stream waits for another one by itself.

    Attributes:
        device: where the work is done.
        queue: the work.
    """

    def __init__(self, *, name: str, device: "SimDevice", queue: StreamQueue) -> None:
        super().__init__(name=name)
        self.device = device
        self.queue = queue

    @override
    def hold(self, tensor: torch.Tensor) -> None:
        # Queued work refers to its tensors, so their memory cannot be reused before it is done.
        del tensor

    @override
    def _wait_event(self, event: Event) -> None:
        self.device.enqueue_wait(self, event)

    @override
    def _synchronize(self) -> None:
        self.device.synchronize_stream(self)


class SimEvent(Event):
    """An event of a simulated device.

    Attributes:
        device: whose streams can record it.
        mark: the latest recording; None before the first.
    """

    def __init__(self, *, name: str, device: "SimDevice") -> None:
        super().__init__(name=name)
        self.device = device
        self.mark: EventMark | None = None

    @override
    def _record(self, stream: Stream) -> None:
        self.device.enqueue_mark(stream, self)

    @override
    def _query(self) -> bool:
        return self.device.query_event(self)

    @override
    def _synchronize(self) -> None:
        self.device.synchronize_event(self)
