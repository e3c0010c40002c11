"""Reads that do not wait for the load which writes what they read."""

from traces.audit.readiness import unready_reads
from traces.schema.model import EventAwaited, EventRecorded


def wheres(recording):
    return [(str(cause.kind), cause.where) for cause in unready_reads({"a": recording})]


def wait(stream, name="load#1"):
    return EventAwaited(step="reload", name=name, stream=stream)


def test_an_accessor_that_waits_is_ready(made):
    assert wheres(made.recording("a", digests=[made.reading(waited=True)])) == []


def test_an_accessor_that_reads_other_bytes_than_came_back_did_not_wait(made):
    digests = [made.reading(equal=False), made.trip("KV.kv_buffer")]
    assert wheres(made.recording("a", digests=digests)) == [
        ("read_before_ready", "device.KV get_key_buffer")
    ]


def test_an_accessor_of_rows_that_came_back_wrong_is_not_blamed(made):
    digests = [made.reading(equal=False), made.trip("KV.kv_buffer", wrong="64")]
    assert wheres(made.recording("a", digests=digests)) == []


def test_an_accessor_that_raced_did_not_wait_though_its_bytes_are_right(made):
    events = [made.race(layer=layer, accessor="get_key_buffer") for layer in (0, 1)]
    found = unready_reads({"a": made.recording("a", digests=[made.reading()], events=events)})
    assert [cause.where for cause in found] == ["device.KV get_key_buffer"]
    assert "right rows by luck" in found[0].message


def test_a_race_of_another_accessor_blames_none(made):
    """Control: the same race as above, of an accessor that has no reading."""
    events = [made.race(accessor="get_value_buffer")]
    assert wheres(made.recording("a", digests=[made.reading()], events=events)) == [
        ("read_before_ready", "KV.kv_buffer: load and attention reads")
    ]


def test_a_race_of_a_backup_is_told_by_what_it_reads(made):
    race = made.race("attention", "backup")
    assert wheres(made.recording("a", events=[race])) == [
        ("read_before_ready", "KV.kv_buffer: backup and attention writes")
    ]


def test_a_race_outside_the_pools_is_told_by_its_operations(made):
    race = made.race("poison", "snapshot", pool="", buffer="", layer=None)
    assert wheres(made.recording("a", events=[race])) == [
        ("read_before_ready", "poison and snapshot")
    ]


def test_a_loaded_layer_must_be_awaited_by_a_reader(made):
    loaded = made.transfer("load")
    mark = EventRecorded(step="reload", name="any", stream="load", layer=0)
    awaited = [loaded, mark, wait("default", "any")]
    assert wheres(made.recording("a", events=awaited)) == []
    by_host = [loaded, mark, wait("host", "any")]
    assert wheres(made.recording("a", events=by_host)) == [
        ("read_before_ready", "load of KV.kv_buffer")
    ]


def test_an_event_that_marks_no_layer_need_not_be_awaited(made):
    """Control: the same event, recorded when nothing was loaded since the last one."""
    mark = EventRecorded(step="reload", name="any", stream="load", layer=None)
    assert wheres(made.recording("a", events=[made.transfer("load"), mark])) == []
