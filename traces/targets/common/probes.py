"""Probes and types that every target registers: methods, streams, events, devices."""

from collections.abc import Callable, Iterator
from types import FunctionType

from assembler.device.base import Device, Event, Stream
from traces.recording.encode import Encoder
from traces.recording.probes import (
    CallProbe,
    EventProbe,
    EventRecordObservation,
    EventWaitObservation,
    PoolNaming,
    Values,
)
from traces.schema.model import Part, Role

_STACK_PREFIX, _STACK_SUFFIX, _ATTACH_PREFIX = "build_", "_stack", "attach_"


def builder_part(name: str) -> Part:
    """Return what a builder of that name makes: both targets name them in the same way."""
    if name.startswith(_ATTACH_PREFIX):
        return "attach"
    is_stack = name.startswith(_STACK_PREFIX) and name.endswith(_STACK_SUFFIX)
    return "stack" if is_stack else ""


def method_probe(
    cls: type,
    function: FunctionType,
    *,
    role: Role,
    part: Part,
    names_pools: Callable[[Values], Iterator[PoolNaming]] | None,
) -> CallProbe:
    """Return a probe of a method, named ``Class`` for a constructor, else ``Class.method``."""
    name = function.__name__
    callee = cls.__name__ if name == "__init__" else f"{cls.__name__}.{name}"
    return CallProbe(
        function=function,
        callee=callee,
        role=role,
        method=name,
        names_pools=names_pools,
        part=part,
    )


def register_device_types(encoder: Encoder) -> None:
    """Register devices, streams and events: by role or name, never by address."""
    encoder.register(Device, lambda _value, _where: {"device": "accelerator"})
    encoder.register(Stream, lambda value, _: {"stream": value.name})
    encoder.register(Event, lambda value, _: {"event": encoder.label(value, value.name)})


def stream_probes() -> list[EventProbe]:
    """Return a probe for every way to order work: record, wait, synchronise."""
    watched = (
        (Event.record, _event_recorded),
        (Event.synchronize, _host_wait),
        (Stream.wait_event, _stream_wait),
        (Stream.synchronize, _host_wait_for_stream),
    )
    probes = []
    for function, observe in watched:
        assert isinstance(function, FunctionType)
        probes.append(
            EventProbe(function=function, family="order", nesting="outermost", observe=observe)
        )
    return probes


def _event_recorded(values: Values, _: object) -> EventRecordObservation:
    event: Event = values["self"]
    return EventRecordObservation(event=event, name=event.name, stream=values["stream"].name)


def _host_wait(values: Values, _: object) -> EventWaitObservation:
    event: Event = values["self"]
    return EventWaitObservation(event=event, name=event.name, stream="host")


def _stream_wait(values: Values, _: object) -> EventWaitObservation:
    event: Event = values["event"]
    return EventWaitObservation(event=event, name=event.name, stream=values["self"].name)


def _host_wait_for_stream(values: Values, _: object) -> EventWaitObservation:
    return EventWaitObservation(event=None, name=values["self"].name, stream="host")
