"""Names of CUDA streams, and probes of the order that code asks of them through torch."""

from collections.abc import Callable, Iterator, Mapping
from types import FunctionType

import torch

from traces.recording.probes import (
    DeviceWaitObservation,
    EventProbe,
    EventRecordObservation,
    EventWaitObservation,
    Observation,
    Values,
)

_DEFAULT = "default"
_EVENT = "event"


class TorchStreams:
    """The CUDA streams of one process by name; one without a name by the order of first sight."""

    def __init__(self) -> None:
        # By handle: torch returns a new object each time it is asked for a stream. It keeps a pool
        # of handles, so that a stream made after many others may have the handle of an old one.
        self._names: dict[int, str] = {}
        self._unnamed = 0

    def name(self, stream: torch.cuda.Stream, name: str) -> None:
        """Give a stream its name in observations."""
        self._names[stream.cuda_stream] = name

    def name_of(self, stream: torch.cuda.Stream | None) -> str:
        """Return a stream's name, ``default`` or ``stream#1``; None is the current stream."""
        found = torch.cuda.current_stream() if stream is None else stream
        handle = found.cuda_stream
        if handle == 0:
            return self._names.get(handle, _DEFAULT)
        if handle not in self._names:
            # A handle is an address, another one in every run.
            self._unnamed += 1
            self._names[handle] = f"stream#{self._unnamed}"
        return self._names[handle]

    def current_name(self, tensor: torch.Tensor) -> str:
        """Return the stream that work on a tensor is launched on; empty for host memory."""
        return self.name_of(torch.cuda.current_stream(tensor.device)) if tensor.is_cuda else ""

    def order_probes(self) -> list[EventProbe]:
        """Return a probe for every way to order work: record, wait, synchronise.

        The ways that torch builds from these (``record_event``, ``wait_stream``) show as them.
        """
        name_of = self.name_of
        observers: dict[object, Callable[[Values, object], Observation]] = {
            torch.cuda.Event.record: lambda values, _: EventRecordObservation(
                event=values["self"], name=_EVENT, stream=name_of(values["stream"])
            ),
            torch.cuda.Event.synchronize: lambda values, _: _event_wait(values["self"], "host"),
            torch.cuda.Event.wait: lambda values, _: _event_wait(
                values["self"], name_of(values["stream"])
            ),
            torch.cuda.Stream.wait_event: lambda values, _: _event_wait(
                values["event"], name_of(values["self"])
            ),
            torch.cuda.Stream.synchronize: lambda values, _: EventWaitObservation(
                event=None, name=name_of(values["self"]), stream="host"
            ),
        }
        return list(_outermost(observers))

    def device_probes(self, own: object) -> list[EventProbe]:
        """Return probes of the waits for the whole device; those inside of ``own`` are left out."""
        observers: dict[object, Callable[[Values, object], Observation | None]] = {
            torch.cuda.synchronize: lambda *_: DeviceWaitObservation(stream=self.name_of(None)),
            own: lambda *_: None,
        }
        return list(_outermost(observers))


def _outermost(
    observers: Mapping[object, Callable[[Values, object], Observation | None]],
) -> Iterator[EventProbe]:
    for function, observe in observers.items():
        assert isinstance(function, FunctionType)
        yield EventProbe(function=function, family="order", nesting="outermost", observe=observe)


def _event_wait(event: object, stream: str) -> EventWaitObservation:
    return EventWaitObservation(event=event, name=_EVENT, stream=stream)
