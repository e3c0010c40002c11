"""Rendering of a trace for Perfetto: streams as tracks, event edges as flows, counters.

A trace has an order and no times: event number ``n`` takes microsecond ``n``. The file opens in
ui.perfetto.dev. The functions import the package ``perfetto``, an extra of this one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tools.errors import ToolError
from tools.report.order import order_edges, stream_of
from traces.schema.copies import Copy
from traces.schema.device_waits import DeviceAwaited
from traces.schema.model import (
    HOST,
    Allocation,
    Event,
    EventAwaited,
    EventRecorded,
    Release,
    Trace,
    Transfer,
)
from traces.schema.slot_ranges import parse_slot_ranges

TICK_NS = 1000
_SEQUENCE = 1
_ROOT, _STEPS = 1, 2
_FIRST_TRACK = 3
# Counters stand below all streams, however many of these there are.
_COUNTER_RANK = 1 << 16


def render_perfetto(trace: Trace) -> bytes:
    """Return a trace in Perfetto's protobuf format.

    Below one track for the scenario are: its steps, the host, every stream, and counters of bytes
    moved by each direction and of slots in use of each pool. A flow leads from the record of an
    event, or from the last work of a stream, to each wait for it.

    Raises:
        ToolError: the package ``perfetto`` is not installed.
    """
    return _PerfettoFile(trace).render()


@dataclass(slots=True)
class _PerfettoFile:
    """The packets of one trace.

    Attributes:
        builder: perfetto's own.
        messages: the module of perfetto's message classes.
        tracks: number of each track, by its name.
        counts: value of each counter, by its name.
    """

    trace: Trace
    builder: Any = field(init=False)
    messages: Any = field(init=False)
    tracks: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            from perfetto.protos.perfetto.trace import perfetto_trace_pb2
            from perfetto.trace_builder.proto_builder import TraceProtoBuilder
        except ImportError as error:
            expected = "goldentrace[perfetto] installed"
            raise ToolError("perfetto", "must be there", expected=expected, got="none") from error
        self.builder, self.messages = TraceProtoBuilder(), perfetto_trace_pb2

    def render(self) -> bytes:
        """Write all packets and return them as bytes."""
        self._describe(_ROOT, self.trace.scenario.name or "trace", parent=None)
        self._describe(_STEPS, "steps", parent=_ROOT)
        self._write_steps()
        begins, ends = _flows(self.trace.events)
        for position, event in enumerate(self.trace.events):
            track = self._track(lane_of(event))
            packet = self._open(position, track, name=label_of(event))
            packet.track_event.flow_ids.extend(begins.get(position, ()))
            packet.track_event.terminating_flow_ids.extend(ends.get(position, ()))
            for name, value in msgspec.to_builtins(event).items():
                _annotate(packet.track_event.debug_annotations.add(), name, value)
            self._close(position + 1, track)
            for counter, change, unit in _counter_changes(event):
                self._count(position + 1, counter, change, unit=unit)
        return bytes(self.builder.serialize())

    def _write_steps(self) -> None:
        for name, first, last in _step_spans(self.trace.events):
            self._open(first, _STEPS, name=name or "no step")
            self._close(last + 1, _STEPS)

    def _describe(self, track: int, name: str, *, parent: int | None, unit: str = "") -> None:
        packet = self.builder.add_packet()
        descriptor = packet.track_descriptor
        descriptor.uuid, descriptor.name = track, name
        descriptor.sibling_order_rank = track + (_COUNTER_RANK if unit else 0)
        kind = self.messages.TrackDescriptor
        descriptor.child_ordering = kind.ChildTracksOrdering.EXPLICIT
        if parent is not None:
            descriptor.parent_uuid = parent
        if unit:
            descriptor.counter.unit_name = unit
        packet.trusted_packet_sequence_id = _SEQUENCE

    def _track(self, name: str, *, unit: str = "") -> int:
        if name not in self.tracks:
            self.tracks[name] = _FIRST_TRACK + len(self.tracks)
            self._describe(self.tracks[name], name, parent=_ROOT, unit=unit)
        return self.tracks[name]

    def _event(self, position: int, track: int, kind: str) -> Any:  # noqa: ANN401 - a protobuf
        packet = self.builder.add_packet()
        packet.timestamp = position * TICK_NS
        packet.trusted_packet_sequence_id = _SEQUENCE
        packet.track_event.type = getattr(self.messages.TrackEvent, f"TYPE_{kind}")
        packet.track_event.track_uuid = track
        return packet

    def _open(self, position: int, track: int, *, name: str) -> Any:  # noqa: ANN401 - a protobuf
        packet = self._event(position, track, "SLICE_BEGIN")
        packet.track_event.name = name
        return packet

    def _close(self, position: int, track: int) -> None:
        self._event(position, track, "SLICE_END")

    def _count(self, position: int, counter: str, change: int, *, unit: str) -> None:
        self.counts[counter] = self.counts.get(counter, 0) + change
        packet = self._event(position, self._track(counter, unit=unit), "COUNTER")
        packet.track_event.counter_value = self.counts[counter]


def lane_of(event: Event) -> str:
    """Return the track of an event: its stream, or the host."""
    stream = stream_of(event)
    return HOST if stream == HOST else f"stream {stream}"


def label_of(event: Event) -> str:
    """Return the name of an event's slice."""
    match event:
        case Transfer():
            return f"{event.direction} {event.pool}.{event.plane} layer {event.layer}"
        case EventRecorded():
            return f"record {event.name}"
        case EventAwaited():
            return f"wait {event.name}"
        case DeviceAwaited():
            return "wait for the device"
        case Copy():
            return f"{event.operation} {event.pool}"
        case _:
            fields = msgspec.to_builtins(event)
            names = (fields["event"], fields.get("operation"), fields.get("pool"))
            return " ".join(filter(None, names))


def _flows(events: tuple[Event, ...]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Return the flows that begin at each position, and those that end there: one for each edge."""
    begins: dict[int, list[int]] = {}
    ends: dict[int, list[int]] = {}
    for flow, edge in enumerate(order_edges(events), 1):
        begins.setdefault(edge.source, []).append(flow)
        ends.setdefault(edge.target, []).append(flow)
    return begins, ends


def _step_spans(events: tuple[Event, ...]) -> Iterator[tuple[str, int, int]]:
    """Yield each step with the positions of its first and of its last event."""
    first = 0
    for position, event in enumerate(events):
        if position + 1 == len(events) or events[position + 1].step != event.step:
            yield event.step, first, position
            first = position + 1


def _counter_changes(event: Event) -> Iterator[tuple[str, int, str]]:
    """Yield the counters that an event changes, by how much, and their units."""
    match event:
        case Transfer():
            yield f"bytes of {event.direction}", event.bytes, "bytes"
        case Allocation() if event.slots is not None:
            yield f"slots of {event.owner}", _slot_number(event.slots), "slots"
        case Release():
            yield f"slots of {event.owner}", -_slot_number(event.slots), "slots"
        case _:
            return


def _slot_number(slots: str) -> int:
    return sum(last + 1 - first for first, last in parse_slot_ranges(slots))


def _annotate(annotation: Any, name: str, value: object) -> None:  # noqa: ANN401 - a protobuf
    """Fill one field of an event in."""
    annotation.name = name
    match value:
        case bool():
            annotation.bool_value = value
        case int():
            annotation.int_value = value
        case str():
            annotation.string_value = value
        case Mapping():
            for key, one in value.items():
                _annotate(annotation.dict_entries.add(), str(key), one)
        case _:
            annotation.string_value = msgspec.json.encode(value).decode()
