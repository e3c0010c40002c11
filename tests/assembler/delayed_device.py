"""A device on which nothing happens until somebody is entitled to the result.

Launched work stays in its stream's queue. Waiting on an event, a stream or the device runs exactly
what has to have run by then, so a missing happens-before edge leaves stale bytes behind.
"""

from collections import deque

from typing_extensions import override

from assembler.device.access import tensor_access
from assembler.device.base import Event, Stream
from assembler.device.cpu import CpuDevice


class Mark:
    """One recording of an event: done once its stream ran past it."""

    def __init__(self, stream):
        self.stream = stream
        self.done = False


class DelayedEvent(Event):
    def __init__(self, *, name):
        super().__init__(name=name)
        self.mark = None

    @override
    def _record(self, stream):
        self.mark = Mark(stream)
        stream.queue.append(self.mark)

    @override
    def _query(self):
        return self.mark is None or self.mark.done

    @override
    def _synchronize(self):
        if self.mark is not None:
            self.mark.stream.run_until(self.mark)


class Wait:
    def __init__(self, mark):
        self.mark = mark


class DelayedStream(Stream):
    def __init__(self, *, name):
        super().__init__(name=name)
        self.queue = deque()
        self.held = []

    @override
    def hold(self, tensor):
        self.held.append(tensor)

    @override
    def _wait_event(self, event):
        if event.mark is not None:
            self.queue.append(Wait(event.mark))

    @override
    def _synchronize(self):
        self.run_until(None)

    def run_until(self, mark):
        while self.queue and not (mark is not None and mark.done):
            item = self.queue.popleft()
            if isinstance(item, Mark):
                item.done = True
            elif isinstance(item, Wait):
                item.mark.stream.run_until(item.mark)
            else:
                item()


class DelayedDevice(CpuDevice):
    """An embedded device whose copies happen as late as the ordering rules allow."""

    def __init__(self):
        super().__init__()
        self.streams = []
        self._state.stream = self.new_stream("default")

    @override
    def new_stream(self, name):
        stream = DelayedStream(name=name)
        self.streams.append(stream)
        return stream

    @override
    def new_event(self, name):
        return DelayedEvent(name=name)

    @override
    def launch(self, operation, *, label, reads, writes):
        self.current_stream().queue.append(operation)

    @override
    def to_device(self, indices):
        return indices.clone()

    @override
    def synchronize(self):
        for stream in self.streams:
            stream.run_until(None)

    def read(self, tensor):
        """Return a copy made on the current stream, as a kernel of the model would see it."""
        copies = []
        self.launch(
            lambda: copies.append(tensor.clone()),
            label="read",
            reads=(tensor_access(tensor),),
            writes=(),
        )
        self.current_stream().synchronize()
        return copies[0]
