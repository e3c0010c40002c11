"""Streams and events of a GPU: what they are called, and the order that a release asks for.

torch hands out a new object each time it is asked for a stream, so streams are told apart by their
handles. It keeps a pool of them: one made after many others may have the handle of an old one.
"""

from types import FunctionType

import torch

from traces.recording.probes import EventProbe, EventRecordObservation, EventWaitObservation, Values

_DEFAULT = "default"
_EVENT = "event"

_stream_names: dict[int, str] = {}


def name_stream(stream: torch.cuda.Stream, name: str) -> None:
    """Let a stream be called by a name in observations."""
    _stream_names[stream.cuda_stream] = name


def stream_name(stream: torch.cuda.Stream) -> str:
    """Return what a stream is called: as it was named, ``default``, or by its handle."""
    handle = stream.cuda_stream
    unnamed = _DEFAULT if handle == 0 else f"stream {handle}"
    return _stream_names.get(handle, unnamed)


def order_seams() -> list[EventProbe]:
    """Return a seam for every way to order work: record, wait, synchronise.

    The ways that torch builds from these (``record_event``, ``wait_stream``) show as them.
    """
    watched = (
        (torch.cuda.Event.record, _observe_event_record),
        (torch.cuda.Event.synchronize, _observe_event_synchronize),
        (torch.cuda.Event.wait, _awaited),
        (torch.cuda.Stream.wait_event, _observe_stream_wait),
        (torch.cuda.Stream.synchronize, _observe_stream_synchronize),
    )
    seams = []
    for function, observe in watched:
        assert isinstance(function, FunctionType)
        seams.append(
            EventProbe(function=function, family="order", nesting="outermost", observe=observe)
        )
    return seams


def _observe_event_record(values: Values, result: object) -> EventRecordObservation:
    del result
    return EventRecordObservation(event=values["self"], name=_EVENT, stream=_name(values["stream"]))


def _observe_event_synchronize(values: Values, result: object) -> EventWaitObservation:
    del result
    return EventWaitObservation(event=values["self"], name=_EVENT, stream="host")


def _awaited(values: Values, result: object) -> EventWaitObservation:
    del result
    return EventWaitObservation(event=values["self"], name=_EVENT, stream=_name(values["stream"]))


def _observe_stream_wait(values: Values, result: object) -> EventWaitObservation:
    del result
    return EventWaitObservation(event=values["event"], name=_EVENT, stream=_name(values["self"]))


def _observe_stream_synchronize(values: Values, result: object) -> EventWaitObservation:
    del result
    return EventWaitObservation(event=None, name=_name(values["self"]), stream="host")


def _name(stream: torch.cuda.Stream | None) -> str:
    return stream_name(torch.cuda.current_stream() if stream is None else stream)
