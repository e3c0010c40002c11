"""Names of a GPU's streams, and probes of the order that a release asks of them."""

from types import FunctionType

import torch

from traces.recording.probes import EventProbe, EventRecordObservation, EventWaitObservation, Values

_DEFAULT = "default"
_EVENT = "event"


class GpuStreams:
    """The streams of one process by name."""

    def __init__(self) -> None:
        # By handle: torch returns a new object each time it is asked for a stream. It keeps a pool
        # of handles, so that a stream made after many others may have the handle of an old one.
        self._names: dict[int, str] = {}

    def name(self, stream: torch.cuda.Stream, name: str) -> None:
        """Give a stream its name in observations."""
        self._names[stream.cuda_stream] = name

    def name_of(self, stream: torch.cuda.Stream | None) -> str:
        """Return a stream's name, ``default`` or its handle; None is the current stream."""
        found = torch.cuda.current_stream() if stream is None else stream
        handle = found.cuda_stream
        return self._names.get(handle, _DEFAULT if handle == 0 else f"stream {handle}")

    def order_probes(self) -> list[EventProbe]:
        """Return a probe for every way to order work: record, wait, synchronise.

        The ways that torch builds from these (``record_event``, ``wait_stream``) show as them.
        """
        watched = (
            (torch.cuda.Event.record, self._observe_record),
            (torch.cuda.Event.synchronize, self._observe_event_synchronize),
            (torch.cuda.Event.wait, self._observe_event_wait),
            (torch.cuda.Stream.wait_event, self._observe_stream_wait),
            (torch.cuda.Stream.synchronize, self._observe_stream_synchronize),
        )
        probes = []
        for function, observe in watched:
            assert isinstance(function, FunctionType)
            probes.append(
                EventProbe(function=function, family="order", nesting="outermost", observe=observe)
            )
        return probes

    def _observe_record(self, values: Values, result: object) -> EventRecordObservation:
        del result
        stream = self.name_of(values["stream"])
        return EventRecordObservation(event=values["self"], name=_EVENT, stream=stream)

    def _observe_event_synchronize(self, values: Values, result: object) -> EventWaitObservation:
        del result
        return EventWaitObservation(event=values["self"], name=_EVENT, stream="host")

    def _observe_event_wait(self, values: Values, result: object) -> EventWaitObservation:
        del result
        stream = self.name_of(values["stream"])
        return EventWaitObservation(event=values["self"], name=_EVENT, stream=stream)

    def _observe_stream_wait(self, values: Values, result: object) -> EventWaitObservation:
        del result
        stream = self.name_of(values["self"])
        return EventWaitObservation(event=values["event"], name=_EVENT, stream=stream)

    def _observe_stream_synchronize(self, values: Values, result: object) -> EventWaitObservation:
        del result
        name = self.name_of(values["self"])
        return EventWaitObservation(event=None, name=name, stream="host")
