"""Load events by layer: a reader waits for the load of its own layer and for no other."""

from assembler.device.base import Device, Event, Stream
from assembler.errors import TransferError


class LayerLoadingEvent:
    """The events of one load: its start and the end of each layer.

    Attributes:
        start_event: recorded on the stream that asked for the load.
        layer_events: one per stage-local layer, recorded on the load stream.
    """

    def __init__(self, *, device: Device, layer_num: int) -> None:
        self.start_event = device.new_event("load.start")
        self.layer_events = [device.new_event(f"load.layer{layer}") for layer in range(layer_num)]

    @property
    def finish_event(self) -> Event:
        """The last layer's event: once it is done, every layer is."""
        return self.layer_events[-1]

    def complete(self, *, layer: int, stream: Stream) -> None:
        """Mark ``layer`` as loaded by the work launched on ``stream`` so far."""
        self.layer_events[layer].record(stream)


class LayerDoneCounter:
    """A ring of loads in flight; the producer fills it, the forward pass waits on it.

    Layers are stage-local: pools wait with ``layer_id - start_layer``.

    Attributes:
        layer_num: layers of one load.
        num_counters: loads that may be in flight at the same time.
        producer_index: ring place of the newest load, -1 before the first.
        consumer_index: ring place that readers wait for, -1 when they need not wait.

    Source: sglang 0.5.12 ``cache_controller.py`` ``LayerDoneCounter``, whose ring re-records the
        same events; here each load gets its own, so an old acknowledgement keeps its meaning.
    """

    num_counters = 3

    def __init__(self, *, device: Device, layer_num: int) -> None:
        self.layer_num = layer_num
        self._device = device
        self._ring = [
            LayerLoadingEvent(device=device, layer_num=layer_num) for _ in range(self.num_counters)
        ]
        self.producer_index = -1
        self.consumer_index = -1

    def update_producer(self) -> int:
        """Return the next ring place, with fresh events; raise TransferError while it is in use."""
        index = (self.producer_index + 1) % self.num_counters
        # An event that was never recorded counts as done, so an unused place is free.
        if not self._ring[index].finish_event.query():
            rule = "a ring place must be finished before it is used again"
            expected = f"at most {self.num_counters} loads in flight"
            raise TransferError("load", rule, expected=expected, got=self.num_counters + 1)
        # Fresh events: recording the old ones again would move the mark that an acknowledgement in
        # the queue still refers to.
        self._ring[index] = LayerLoadingEvent(device=self._device, layer_num=self.layer_num)
        self.producer_index = index
        return index

    def events(self, producer_index: int) -> LayerLoadingEvent:
        """Return the events of the load at a ring place."""
        return self._ring[producer_index]

    def set_consumer(self, producer_index: int) -> None:
        """Make later waits refer to the load at ``producer_index``; -1 for none."""
        self.consumer_index = producer_index

    def wait_until(self, threshold: int) -> None:
        """Order the current stream after the load of layer ``threshold``. Does not block the host.

        Raises:
            TransferError: ``threshold`` is not a stage-local layer of this counter.
        """
        if self.consumer_index < 0:
            return
        if not 0 <= threshold < self.layer_num:
            rule = "a reader must wait for a stage-local layer"
            expected = f"0 <= layer < {self.layer_num}"
            raise TransferError("load", rule, expected=expected, got=threshold)
        event = self._ring[self.consumer_index].layer_events[threshold]
        self._device.current_stream().wait_event(event)

    def reset(self) -> None:
        """Reset producer and consumer; readers wait for no load from now on."""
        self.producer_index = -1
        self.consumer_index = -1
