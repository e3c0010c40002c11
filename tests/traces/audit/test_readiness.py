"""Reads that do not wait for the load which writes what they read."""

from traces.audit.readiness import unready_reads
from traces.schema.model import EventAwaited, EventRecorded

RACE = (
    "transfer_kv_per_layer_mla host pool to KV.kv_buffer[{}] on stream and attention reads "
    "KV.kv_buffer[{}] by get_key_buffer on stream"
)
READ = "KV.read.get_key_buffer"


def wheres(recording):
    return [(str(cause.kind), cause.where) for cause in unready_reads({"a": recording})]


def wait(stream, name="load#1"):
    return EventAwaited(step="reload", name=name, stream=stream)


def test_an_accessor_that_waits_is_ready(made):
    events = [wait("read.get_key_buffer")]
    assert wheres(made.recording("a", digests=[made.trip(READ)], events=events)) == []


def test_an_accessor_that_reads_other_bytes_than_came_back_did_not_wait(made):
    digests = [made.trip(READ, wrong="64"), made.trip("KV.kv_buffer")]
    assert wheres(made.recording("a", digests=digests)) == [
        ("read_before_ready", "device.KV get_key_buffer")
    ]


def test_an_accessor_of_rows_that_came_back_wrong_is_not_blamed(made):
    digests = [made.trip(READ, wrong="64"), made.trip("KV.kv_buffer", wrong="64")]
    assert wheres(made.recording("a", digests=digests)) == []


def test_an_accessor_that_raced_did_not_wait_though_its_bytes_are_right(made):
    events = [made.race(RACE.format(0, 0)), made.race(RACE.format(1, 1))]
    found = unready_reads({"a": made.recording("a", digests=[made.trip(READ)], events=events)})
    assert [cause.where for cause in found] == [
        "device.KV get_key_buffer",
        "KV.kv_buffer: load and attention reads",
    ]
    assert "right rows by luck" in found[0].message


def test_a_race_of_a_backup_is_told_by_what_it_reads(made):
    text = (
        "copy KV.v_buffer[0] to host pool on stream and attention writes KV.v_buffer[0] on stream"
    )
    assert wheres(made.recording("a", events=[made.race(text)])) == [
        ("read_before_ready", "KV.v_buffer: backup and attention writes")
    ]


def test_a_race_in_other_words_keeps_them_without_numbers(made):
    assert wheres(made.recording("a", events=[made.race("poison 3 and snapshot")])) == [
        ("read_before_ready", "poison * and snapshot")
    ]


def test_a_loaded_layer_must_be_awaited_by_a_reader(made):
    loaded = made.transfer("load")
    mark = EventRecorded(step="reload", name="load.layer0#1", stream="load")
    awaited = [loaded, mark, wait("default", "load.layer0#1")]
    assert wheres(made.recording("a", events=awaited)) == []
    by_host = [loaded, mark, wait("host", "load.layer0#1")]
    assert wheres(made.recording("a", events=by_host)) == [
        ("read_before_ready", "load of KV.kv_buffer")
    ]
