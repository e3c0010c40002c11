"""Order between roles: handles, logs and records that nobody waits for play no part."""

import msgspec
import pytest

from traces.schema.device_waits import DeviceAwaited
from traces.schema.labels import name_of_label
from traces.schema.model import (
    SCHEMA,
    Allocation,
    Argument,
    Call,
    EventAwaited,
    EventRecorded,
    Location,
    Message,
    Outcome,
    Recording,
    Release,
    ScenarioRecord,
    Sites,
    Trace,
    Transfer,
)
from traces.schema.races import Race, RaceAccess
from traces.schema.storage_records import StorageAccess
from traces.targets.sglang.normalise import normalise_recording


def marked(name, stream):
    return EventRecorded(step="backup", name=name, stream=stream, layer=None)


def waited(name, stream):
    return EventAwaited(step="backup", name=name, stream=stream)


def moved(stream, direction="backup", step="backup"):
    return Transfer(
        step=step,
        direction=direction,
        pool="KV",
        device_pool="KV",
        plane="kv",
        layer=0,
        device_slots="0-1",
        host_slots="0-1",
        rows=2,
        row_bytes=4,
        bytes=8,
        backend="kernel",
        stream=stream,
    )


def tidy(*events, calls=(), messages=()):
    trace = Trace(
        schema=SCHEMA,
        scenario=ScenarioRecord(name="a", config={}),
        calls=calls,
        tensors=(),
        events=events,
        digests=(),
        outcome=Outcome(ok=True, failed_step="", failure=None),
    )
    places = tuple(Location(file="sglang/a.py", line=line) for line, _ in enumerate(events))
    recording = Recording(
        trace=trace, sites=Sites(calls={}, definitions={}, events=places, failure=None)
    )
    return normalise_recording(recording, messages=messages)


def test_streams_and_events_are_named_by_role_whatever_their_handles():
    one = tidy(
        marked("event 1#1", "default"), waited("event 1#1", "stream 1"), moved("stream 1"),
        marked("event 2#1", "stream 1"), waited("event 2#1", "host"),
    )  # fmt: skip
    other = tidy(
        marked("event 7#1", "default"), waited("event 7#1", "stream 9"), moved("stream 9"),
        marked("event 3#1", "stream 9"), waited("event 3#1", "host"),
    )  # fmt: skip

    assert one.trace == other.trace
    assert one.trace.events == (
        marked("default@0", "default"),
        waited("default@0", "backup"),
        moved("backup"),
        marked("backup@1", "backup"),
        waited("backup@1", "host"),
    )


def test_record_that_nobody_waits_for_is_no_order():
    """``timing#1`` is one; ``e#1`` is waited for by a stream that moves something."""
    timed = tidy(
        marked("e#1", "default"), marked("timing#1", "default"), waited("e#1", "s"), moved("s")
    )

    assert timed.trace == tidy(marked("e#1", "default"), waited("e#1", "s"), moved("s")).trace
    assert [type(event).__name__ for event in timed.trace.events] == [
        "EventRecorded",
        "EventAwaited",
        "Transfer",
    ]
    assert [site.line for site in timed.sites.events] == [0, 2, 3]


def test_stream_that_moves_nothing_takes_no_part_in_the_order():
    """Control: see above."""
    idle = tidy(
        marked("e#1", "default"), waited("e#1", "s"), marked("f#1", "s"), waited("f#1", "host")
    )

    assert idle.trace.events == ()


def test_wait_for_the_device_is_named_after_what_its_stream_does():
    found = tidy(
        moved("s"),
        DeviceAwaited(step="backup", stream="s"),
        DeviceAwaited(step="backup", stream="copy.kv_cache.get_cpu_copy"),
        DeviceAwaited(step="backup", stream="stream 7"),
    )

    assert [event.stream for event in found.trace.events] == [
        "backup",
        "backup",
        "copy.kv_cache.get_cpu_copy",
        "other",
    ]


def test_wait_for_a_device_without_work_is_no_order():
    found = tidy(
        DeviceAwaited(step="slots", stream="default"), DeviceAwaited(step="tree", stream="default")
    )

    assert found.trace.events == (DeviceAwaited(step="tree", stream="default"),)


def freed(owner, slots, step="tree"):
    return Release(step=step, owner=owner, pool=owner.partition(".")[2], slots=slots)


def test_what_a_tree_frees_in_a_row_is_one():
    """One release frees node by node, another all of it, page by page."""
    one = tidy(freed("device.KV", "8-11"), freed("device.SWA", "3"), freed("device.KV", "4-7,12"))
    other = tidy(freed("device.KV", "4-7,4-7,8-12"), freed("device.SWA", "3"))

    assert one.trace == other.trace
    assert one.trace.events == (freed("device.KV", "4-12"), freed("device.SWA", "3"))


@pytest.mark.parametrize(
    "events",
    [
        (freed("device.KV", "1", "finish"), freed("device.KV", "2", "finish")),
        (freed("device.KV", "1"), moved("s", step="tree"), freed("device.KV", "2")),
    ],
    ids=["in another step", "with a transfer between"],
)
def test_what_is_freed_otherwise_stays_apart(events):
    """Control."""
    assert sum(isinstance(event, Release) for event in tidy(*events).trace.events) == 2


def test_two_marks_of_the_same_point_are_one():
    """One release waits for the last layer's event, another for one of its own right behind it."""
    last = tidy(moved("s", "load"), marked("l#1", "s"), waited("l#1", "d"), waited("l#1", "host"))
    own = tidy(
        moved("s", "load"), marked("l#1", "s"), marked("f#1", "s"),
        waited("l#1", "d"), waited("f#1", "host"),
    )  # fmt: skip

    assert last.trace == own.trace


def test_mark_before_the_last_transfer_is_another_point():
    """Control: the same records, in another order."""
    last = tidy(moved("s"), moved("s"), marked("f#1", "s"), waited("f#1", "host"))
    early = tidy(moved("s"), marked("f#1", "s"), moved("s"), waited("f#1", "host"))

    assert last.trace.events != early.trace.events


def test_transfer_more_before_a_mark_does_not_rename_the_mark():
    """What a release copies on top is told by the transfer, not by every mark behind it."""
    one = tidy(moved("s"), marked("l#1", "s"), moved("s"), marked("l#2", "s"), waited("l#2", "d"))
    more = tidy(
        moved("s"), moved("s"), marked("l#1", "s"), moved("s"), moved("s"),
        marked("l#2", "s"), waited("l#2", "d"),
    )  # fmt: skip

    assert [event for event in one.trace.events if hasattr(event, "name")] == [
        event for event in more.trace.events if hasattr(event, "name")
    ]


def test_lost_wait_takes_its_record_along_and_shows():
    """Control: with the wait both are there."""
    with_wait = tidy(marked("e#1", "default"), waited("e#1", "s"), moved("s"))
    without = tidy(marked("e#1", "default"), moved("s"))

    assert len(with_wait.trace.events) == 3
    assert without.trace.events == (moved("backup"),)


def taken(owner, slots, step="backup"):
    return Allocation(step=step, owner=owner, pool=owner.partition(".")[2], need=1, slots=slots)


def test_which_pool_gives_its_slots_first_is_no_order():
    one = tidy(taken("host.SWA", "0"), taken("host.MAMBA", "4"), taken("host.SWA", "1"))
    other = tidy(taken("host.SWA", "0"), taken("host.SWA", "1"), taken("host.MAMBA", "4"))

    assert one.trace == other.trace
    assert [site.line for site in one.sites.events] == [1, 0, 2]


@pytest.mark.parametrize(
    "between", [(), (moved("s"),)], ids=["the same pool", "with a transfer between"]
)
def test_order_of_slots_counts(between):
    """Control: of one pool, and on both sides of other work."""
    owner = "host.MAMBA" if between else "host.SWA"
    one = tidy(taken("host.SWA", "0"), *between, taken(owner, "1"))
    other = tidy(taken(owner, "1"), *between, taken("host.SWA", "0"))

    assert one.trace.events != other.trace.events


def of(pool, stream="s"):
    return msgspec.structs.replace(moved(stream), pool=pool)


def test_which_pool_a_stream_moves_first_is_no_order():
    one = tidy(of("SWA"), of("KV"), marked("f#1", "s"), waited("f#1", "host"))
    other = tidy(of("KV"), of("SWA"), marked("f#1", "s"), waited("f#1", "host"))

    assert one.trace == other.trace


def test_what_is_moved_before_and_behind_a_mark_stays_there():
    """Control."""
    one = tidy(of("SWA"), marked("f#1", "s"), of("KV"), waited("f#1", "host"))
    other = tidy(of("KV"), marked("f#1", "s"), of("SWA"), waited("f#1", "host"))

    assert one.trace.events != other.trace.events


def test_slots_stay_in_their_step():
    steps = tidy(taken("host.SWA", "0"), taken("host.KV", "0", step="reload"))

    assert [event.step for event in steps.trace.events] == ["backup", "reload"]


def test_log_is_left_out_and_messages_of_the_player_are_told():
    race = Race(
        step="reload",
        pool="KV",
        buffer="kv_buffer",
        layer=0,
        first=RaceAccess(operation="load", accessor="", on="stream", access="write"),
        second=RaceAccess(operation="attention", accessor="", on="stream", access="read"),
        text="a and b",
    )
    line = Location(file="sglang/srt/mem_cache/controller.py", line=7)
    note = Message(step="tree", level="warning", text="not played: UnifiedRadixCache lacks it")
    found = tidy(
        Message(step="build", level="warning", text="Allocating host memory"),
        messages=((race, line), (note, None)),
    )

    assert found.trace.events == (race, note)
    assert found.sites.events == (line, None)


def test_arguments_of_the_scripts_own_operations_are_left_out():
    def call(parent, role):
        return Call(
            call="Controller.write#1",
            parent=parent,
            caller=name_of_label(parent),
            step="backup",
            role=role,
            part="",
            callee="Controller.write",
            arguments=(Argument(name="node_id", value=5, given=True),),
            returns=None,
            raises=None,
        )

    own = tidy(calls=(call("", "operation"),)).trace.calls[0]
    inner = tidy(calls=(call("Tree.insert#1", "operation"),)).trace.calls[0]
    built = tidy(calls=(call("", "builder"),)).trace.calls[0]

    assert own == msgspec.structs.replace(call("", "operation"), arguments=())
    assert inner.arguments == built.arguments == call("", "builder").arguments


def asked(operation, pool, key):
    return StorageAccess(
        step="storage", operation=operation, pool=pool, key=key, bytes=8, backend="", sha256="00"
    )


def test_which_pool_is_fetched_first_is_no_order():
    kv, swa = (asked("fetch", "KV", "a"), asked("fetch", "KV", "b")), asked("fetch", "SWA", "b")
    assert tidy(swa, *kv).trace.events == tidy(*kv, swa).trace.events == (*kv, swa)


def test_pages_of_one_pool_and_what_is_done_to_them_keep_their_order():
    events = (asked("query", "SWA", "a"), asked("fetch", "KV", "b"), asked("fetch", "KV", "a"))
    assert tidy(*events).trace.events == events


def test_what_other_threads_do_comes_behind_the_script_in_the_same_step():
    def stored(step, key):
        return StorageAccess(
            step=step, operation="store", pool="KV", key=key, bytes=8, backend="", sha256="0"
        )

    def freed(step, slots):
        return Release(step=step, owner="device.KV", pool="KV", slots=slots)

    # As the recorder returns them: the script's own, then those of the other threads.
    events = [freed("a", "0"), freed("b", "1"), stored("a", "x"), stored("b", "y")]
    assert [(event.step, type(event).__name__) for event in tidy(*events).trace.events] == [
        ("a", "Release"),
        ("a", "StorageAccess"),
        ("b", "Release"),
        ("b", "StorageAccess"),
    ]
