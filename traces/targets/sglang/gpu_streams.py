"""Streams and events of a GPU: what they are called, and the order that a release asks for.

torch hands out a new object each time it is asked for a stream, so streams are told apart by their
handles. It keeps a pool of them: one made after many others may have the handle of an old one.
"""

from types import FunctionType

import torch

from traces.seams import EventMarked, EventSeam, EventWaited, Values

_DEFAULT = "default"
_EVENT = "event"

_named: dict[int, str] = {}


def name_stream(stream: torch.cuda.Stream, name: str) -> None:
    """Let a stream be called by a name in observations."""
    _named[stream.cuda_stream] = name


def stream_name(stream: torch.cuda.Stream) -> str:
    """Return what a stream is called: as it was named, ``default``, or by its handle."""
    handle = stream.cuda_stream
    unnamed = _DEFAULT if handle == 0 else f"stream {handle}"
    return _named.get(handle, unnamed)


def order_seams() -> list[EventSeam]:
    """Return a seam for every way to order work: record, wait, synchronise.

    The ways that torch builds from these (``record_event``, ``wait_stream``) show as them.
    """
    watched = (
        (torch.cuda.Event.record, _marked),
        (torch.cuda.Event.synchronize, _host_waited),
        (torch.cuda.Event.wait, _awaited),
        (torch.cuda.Stream.wait_event, _stream_waited),
        (torch.cuda.Stream.synchronize, _host_waited_for_stream),
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
    return EventMarked(event=values["self"], name=_EVENT, stream=_name(values["stream"]))


def _host_waited(values: Values, result: object) -> EventWaited:
    del result
    return EventWaited(event=values["self"], name=_EVENT, stream="host")


def _awaited(values: Values, result: object) -> EventWaited:
    del result
    return EventWaited(event=values["self"], name=_EVENT, stream=_name(values["stream"]))


def _stream_waited(values: Values, result: object) -> EventWaited:
    del result
    return EventWaited(event=values["event"], name=_EVENT, stream=_name(values["self"]))


def _host_waited_for_stream(values: Values, result: object) -> EventWaited:
    del result
    return EventWaited(event=None, name=_name(values["self"]), stream="host")


def _name(stream: torch.cuda.Stream | None) -> str:
    return stream_name(torch.cuda.current_stream() if stream is None else stream)
