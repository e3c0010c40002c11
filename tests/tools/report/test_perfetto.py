"""A trace for Perfetto: read back as protobuf, tracks, slices, flows and counters are whole."""

from collections import Counter

import msgspec
import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as messages

from tests.tools.report.test_page import transfer
from tools.report.perfetto import render_perfetto
from traces.schema.model import Allocation, EventAwaited, EventRecorded, Release

EVENTS = (
    Allocation(step="write", owner="device.KV", pool="KV", need=64, slots="0-63"),
    EventRecorded(step="write", name="start#1", stream="default", layer=None),
    EventAwaited(step="write", name="start#1", stream="write"),
    transfer(step="write", layer=0),
    transfer(step="write", layer=1),
    EventRecorded(step="write", name="done#1", stream="write", layer=1),
    EventAwaited(step="free", name="done#1", stream="host"),
    EventAwaited(step="free", name="done#1", stream="load"),
    EventAwaited(step="free", name="never#1", stream="load"),
    Release(step="free", owner="device.KV", pool="KV", slots="0-31,40"),
)


@pytest.fixture
def read(make_trace):
    def read(events=EVENTS):
        content = render_perfetto(msgspec.structs.replace(make_trace("a"), events=events))
        return messages.Trace.FromString(content).packet

    return read


def tracks(packets):
    return {
        one.track_descriptor.uuid: one.track_descriptor
        for one in packets
        if one.HasField("track_descriptor")
    }


def of_type(packets, name):
    kind = getattr(messages.TrackEvent, f"TYPE_{name}")
    found = [one for one in packets if one.HasField("track_event")]
    return [one for one in found if one.track_event.type == kind]


def test_scenario_has_a_track_for_its_steps_for_the_host_for_every_stream_and_counter(read):
    found = tracks(read())
    assert {one.name for one in found.values()} == {
        "a",
        "steps",
        "host",
        "stream default",
        "stream write",
        "stream load",
        "bytes of backup",
        "slots of device.KV",
    }
    [root] = [uuid for uuid, one in found.items() if one.name == "a"]
    assert {one.parent_uuid for uuid, one in found.items() if uuid != root} == {root}


def test_streams_stand_above_counters_in_the_order_of_their_first_event(read):
    found = sorted(tracks(read()).values(), key=lambda one: one.sibling_order_rank)
    assert [one.name for one in found] == [
        "a",
        "steps",
        "host",
        "stream default",
        "stream write",
        "stream load",
        "slots of device.KV",
        "bytes of backup",
    ]


def test_every_event_is_a_slice_of_one_microsecond_on_its_track(read):
    packets = read()
    names = {uuid: one.name for uuid, one in tracks(packets).items()}
    shown = [
        (one.timestamp, names[one.track_event.track_uuid], one.track_event.name)
        for one in of_type(packets, "SLICE_BEGIN")
        if names[one.track_event.track_uuid] != "steps"
    ]
    assert shown == [
        (0, "host", "alloc KV"),
        (1000, "stream default", "record start#1"),
        (2000, "stream write", "wait start#1"),
        (3000, "stream write", "backup KV.kv layer 0"),
        (4000, "stream write", "backup KV.kv layer 1"),
        (5000, "stream write", "record done#1"),
        (6000, "host", "wait done#1"),
        (7000, "stream load", "wait done#1"),
        (8000, "stream load", "wait never#1"),
        (9000, "host", "free KV"),
    ]


def test_slices_end_where_they_should_and_none_is_left_open(read):
    packets = read()
    depth = Counter()
    for one in packets:
        if one.HasField("track_event"):
            track = one.track_event.track_uuid
            depth[track] += one.track_event.type == messages.TrackEvent.TYPE_SLICE_BEGIN
            depth[track] -= one.track_event.type == messages.TrackEvent.TYPE_SLICE_END
            assert depth[track] in (0, 1)
    assert set(depth.values()) == {0}
    known = tracks(packets)
    [steps] = [uuid for uuid, one in known.items() if one.name == "steps"]
    ends = [one.timestamp for one in of_type(packets, "SLICE_END")]
    assert ends[:2] == [6000, 10000]
    assert sorted(ends[2:]) == [1000 * number for number in range(1, 11)]
    assert steps == 2


def test_flow_leads_from_a_record_to_each_wait_for_it(read):
    begins, ends = {}, {}
    for one in of_type(read(), "SLICE_BEGIN"):
        begins |= dict.fromkeys(one.track_event.flow_ids, one.timestamp)
        ends |= dict.fromkeys(one.track_event.terminating_flow_ids, one.timestamp)
    assert {flow: (begins[flow], ends[flow]) for flow in begins} == {
        1: (1000, 2000),
        2: (5000, 6000),
        3: (5000, 7000),
    }
    assert begins.keys() == ends.keys()


def test_counters_add_bytes_of_transfers_and_slots_in_use(read):
    packets = read()
    names = {uuid: one.name for uuid, one in tracks(packets).items()}
    shown = [
        (names[one.track_event.track_uuid], one.timestamp, one.track_event.counter_value)
        for one in of_type(packets, "COUNTER")
    ]
    assert shown == [
        ("slots of device.KV", 1000, 64),
        ("bytes of backup", 4000, 64 * 656),
        ("bytes of backup", 5000, 2 * 64 * 656),
        ("slots of device.KV", 10000, 31),
    ]


def test_slice_has_the_fields_of_its_event(read):
    [first, *_] = [
        one for one in of_type(read(), "SLICE_BEGIN") if "layer 1" in one.track_event.name
    ]
    shown = {
        one.name: one.int_value or one.string_value for one in first.track_event.debug_annotations
    }
    assert shown["layer"] == 1
    assert shown["device_slots"] == "0-63"
    assert shown["rows"] == 64


def test_trace_without_events_has_its_tracks_alone(read):
    packets = read(())
    assert [one.name for one in tracks(packets).values()] == ["a", "steps"]
    assert len(packets) == 2
