"""Streams and events of the accelerator behind the API of ``torch.cuda``."""

import types
from collections import Counter
from types import FunctionType
from typing import Any
from weakref import WeakValueDictionary

import torch

from assembler.device import Device
from assembler.device import Event as DeviceEvent
from assembler.device import Stream as DeviceStream
from traces.recording.probes import DeviceWaitObservation, EventProbe, Values

_CAPABILITY = (8, 0)


class ShimStream:
    """``torch.cuda.Stream`` of a release, in front of the accelerator's ``stream``."""

    owner: "StreamShims"

    def __init__(self, *_: object, **__: object) -> None:
        owner = self.owner
        self.stream: DeviceStream = owner.device.new_stream(owner.next_name("stream"))
        self.begin()

    def begin(self) -> None:
        """Register the stream under the accelerator's."""
        self.device = self.owner.device.torch_device
        self._previous: list[DeviceStream] = []
        self.owner.handles[self.stream] = self

    @classmethod
    def of(cls, stream: DeviceStream) -> "ShimStream":
        """Return the one shim of a stream of the accelerator."""
        seen = cls.owner.handles.get(stream)
        if seen is None:
            seen = cls.__new__(cls)
            seen.stream = stream
            seen.begin()
        return seen

    @property
    def cuda_stream(self) -> int:
        """Number that identifies the stream."""
        return id(self.stream)

    stream_id = cuda_stream

    def wait_event(self, event: "ShimEvent") -> None:
        """Order later work after an event."""
        self.stream.wait_event(event.event)

    def wait_stream(self, stream: "ShimStream") -> None:
        """Order later work after all work of another stream so far."""
        self.wait_event(stream.record_event())

    def record_event(self, event: "ShimEvent | None" = None) -> "ShimEvent":
        """Mark the work so far."""
        marked = self.owner.event_type() if event is None else event
        marked.record(self)
        return marked

    def query(self) -> bool:
        """Return whether all work so far is done."""
        return self.record_event().query()

    def synchronize(self) -> None:
        """Block the host until all work so far is done."""
        self.stream.synchronize()

    def __enter__(self) -> "ShimStream":
        self._previous.append(self.owner.device.current_stream())
        self.owner.device._switch(self.stream)  # noqa: SLF001 - the block need not be one block
        return self

    def __exit__(self, *_: object) -> None:
        self.owner.device._switch(self._previous.pop())  # noqa: SLF001


class ShimEvent:
    """``torch.cuda.Event`` of a release, in front of the accelerator's ``event``."""

    owner: "StreamShims"

    def __init__(self, *_: object, **__: object) -> None:
        self.event: DeviceEvent = self.owner.device.new_event(self.owner.next_name("event"))

    def record(self, stream: ShimStream | None = None) -> None:
        """Mark the work of a stream, the current one by default, so far."""
        current = self.owner.device.current_stream()
        self.event.record(current if stream is None else stream.stream)

    def wait(self, stream: ShimStream | None = None) -> None:
        """Order later work of a stream, the current one by default, after the mark."""
        current = self.owner.device.current_stream()
        (current if stream is None else stream.stream).wait_event(self.event)

    def query(self) -> bool:
        """Return whether the marked work is done."""
        return self.event.query()

    def synchronize(self) -> None:
        """Block the host until the marked work is done."""
        self.event.synchronize()

    def elapsed_time(self, end_event: "ShimEvent") -> float:
        """Return 0: the simulation has an order and no time."""
        del end_event
        return 0.0


class _StreamBlock:
    """``with device_module.stream(chosen)``; None changes nothing."""

    def __init__(self, stream: ShimStream | None) -> None:
        self.stream = stream

    def __enter__(self) -> ShimStream | None:
        return None if self.stream is None else self.stream.__enter__()

    def __exit__(self, *error: object) -> None:
        if self.stream is not None:
            self.stream.__exit__(*error)


class StreamShims:
    """The stream API of one device; ``handles`` has the shim of each stream that is alive."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._counts: Counter[str] = Counter()
        self.handles: WeakValueDictionary[DeviceStream, ShimStream] = WeakValueDictionary()
        self.stream_type: type[ShimStream] = type("Stream", (ShimStream,), {"owner": self})
        self.event_type: type[ShimEvent] = type("Event", (ShimEvent,), {"owner": self})
        self._default = device.current_stream()

    def next_name(self, kind: str) -> str:
        """Return a name for a new stream or event: its kind and number."""
        self._counts[kind] += 1
        return f"{kind} {self._counts[kind]}"

    def synchronize(self, *_: object, **__: object) -> None:
        """Block the host until all work of all streams is done, as the release asks for it."""
        self.device.synchronize()

    def functions(self) -> dict[str, Any]:
        """Return the replacements for names of ``torch.cuda`` and ``torch.cpu``."""
        return {
            "Stream": self.stream_type,
            "Event": self.event_type,
            "ExternalStream": self.stream_type,
            "StreamContext": _StreamBlock,
            "stream": _StreamBlock,
            "current_stream": lambda *_, **__: self.stream_type.of(self.device.current_stream()),
            "default_stream": lambda *_, **__: self.stream_type.of(self._default),
            "set_stream": self._set_stream,
            "synchronize": self.synchronize,
            # A release chooses by it among kernels that move the same bytes.
            "get_device_capability": lambda *_, **__: _CAPABILITY,
        }

    def module(self) -> types.ModuleType:
        """Return a device module; names other than streams are ``torch.cpu``'s."""
        module = types.ModuleType("torch.cpu")
        vars(module).update(self.functions())
        vars(module)["__getattr__"] = lambda name: getattr(torch.cpu, name)
        return module

    def _set_stream(self, stream: ShimStream) -> None:
        self.device._switch(stream.stream)  # noqa: SLF001


def device_wait_probe() -> EventProbe:
    """Return a probe of the release's waits for the whole device."""
    function: object = StreamShims.synchronize
    assert isinstance(function, FunctionType)
    return EventProbe(function=function, family="order", nesting="outermost", observe=_waited)


def _waited(values: Values, _: object) -> DeviceWaitObservation:
    owner: StreamShims = values["self"]
    return DeviceWaitObservation(stream=owner.device.current_stream().name)
