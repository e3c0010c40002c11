"""Seams of the accelerator's streams and events: the order that a target asks for."""

from types import FunctionType

from assembler.device.base import Event, Stream
from traces.recording.probes import EventProbe, EventRecordObservation, EventWaitObservation, Values


def stream_probes() -> list[EventProbe]:
    """Return a seam for every way to order work: record, wait, synchronise."""
    watched = (
        (Event.record, _event_recorded),
        (Event.synchronize, _host_wait),
        (Stream.wait_event, _stream_wait),
        (Stream.synchronize, _host_wait_for_stream),
    )
    seams = []
    for function, observe in watched:
        assert isinstance(function, FunctionType)
        seams.append(
            EventProbe(function=function, family="order", nesting="outermost", observe=observe)
        )
    return seams


def _event_recorded(values: Values, result: object) -> EventRecordObservation:
    del result
    event: Event = values["self"]
    return EventRecordObservation(event=event, name=event.name, stream=values["stream"].name)


def _host_wait(values: Values, result: object) -> EventWaitObservation:
    del result
    event: Event = values["self"]
    return EventWaitObservation(event=event, name=event.name, stream="host")


def _stream_wait(values: Values, result: object) -> EventWaitObservation:
    del result
    event: Event = values["event"]
    return EventWaitObservation(event=event, name=event.name, stream=values["self"].name)


def _host_wait_for_stream(values: Values, result: object) -> EventWaitObservation:
    del result
    return EventWaitObservation(event=None, name=values["self"].name, stream="host")
