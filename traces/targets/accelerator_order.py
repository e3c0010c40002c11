"""Seams of the accelerator's streams and events: the order that a target asks for."""

from types import FunctionType

from assembler.accelerator.base import Event, Stream
from traces.seams import EventMarked, EventSeam, EventWaited, Values


def order_seams() -> list[EventSeam]:
    """Return a seam for every way to order work: record, wait, synchronise."""
    watched = (
        (Event.record, _marked),
        (Event.synchronize, _host_waited),
        (Stream.wait_event, _stream_waited),
        (Stream.synchronize, _host_waited_for_stream),
    )
    seams = []
    for function, observe in watched:
        assert isinstance(function, FunctionType)
        seams.append(
            EventSeam(function=function, family="order", nesting="outermost", observe=observe)
        )
    return seams


def _marked(values: Values, result: object) -> EventMarked:
    del result
    event: Event = values["self"]
    return EventMarked(event=event, name=event.name, stream=values["stream"].name)


def _host_waited(values: Values, result: object) -> EventWaited:
    del result
    event: Event = values["self"]
    return EventWaited(event=event, name=event.name, stream="host")


def _stream_waited(values: Values, result: object) -> EventWaited:
    del result
    event: Event = values["event"]
    return EventWaited(event=event, name=event.name, stream=values["self"].name)


def _host_waited_for_stream(values: Values, result: object) -> EventWaited:
    del result
    return EventWaited(event=None, name=values["self"].name, stream="host")
