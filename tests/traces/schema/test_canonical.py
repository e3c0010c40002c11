import os
from enum import StrEnum

import pytest

from traces.errors import GoldenWriteError, TraceFormatError
from traces.schema.canonical import (
    is_canonical,
    parse,
    parse_sites,
    plain_config,
    read_recording,
    read_trace,
    render,
    render_sites,
    sites_path_of,
    write_atomic,
)
from traces.schema.model import (
    SCHEMA,
    Argument,
    Call,
    EventRecorded,
    Location,
    Outcome,
    Recording,
    ScenarioRecord,
    Sites,
    Trace,
)


def trace_with(*, value: object = 1, config: dict | None = None, events: tuple = ()) -> Trace:
    call = Call(
        call="f#1",
        parent="",
        caller="",
        step="build",
        role="builder",
        part="",
        callee="f",
        arguments=(Argument(name="x", value=value, given=True),),
        returns=None,
        raises=None,
    )
    return Trace(
        schema=SCHEMA,
        scenario=ScenarioRecord(name="one", config={} if config is None else config),
        calls=(call,),
        tensors=(),
        events=events,
        digests=(),
        outcome=Outcome(ok=True, failed_step="", failure=None),
    )


RECORD = EventRecorded(step="build", name="write.start#1", stream="default", layer=None)

TEXT = """{
"schema":"goldentrace.trace/2",
"scenario":{"name":"one","config":{"page_size":64}},
"calls":[
{"call":"f#1","parent":"","caller":"","step":"build","role":"builder","part":"","callee":"f","arguments":[{"name":"x","value":1,"given":true}],"returns":null,"raises":null,"unbound":null}
],
"tensors":[],
"events":[
{"event":"record","step":"build","name":"write.start#1","stream":"default","layer":null},
{"event":"record","step":"build","name":"write.start#1","stream":"default","layer":null}
],
"digests":[],
"outcome":{"ok":true,"failed_step":"","failure":null},
"objects":{}
}
"""


def test_render_puts_one_record_a_line_in_schema_order():
    assert render(trace_with(config={"page_size": 64}, events=(RECORD, RECORD))) == TEXT


def test_parse_gives_back_what_was_rendered():
    trace = trace_with(value={"map": [[0, 1], [7, 2.0]]}, config={"b": 1, "a": [1, None]})

    assert parse(render(trace)) == trace
    assert render(parse(render(trace))) == render(trace)


def test_integers_stay_integers_and_floats_stay_floats():
    parsed = parse(render(trace_with(value=[2, 2.0, 2**70])))

    value = parsed.calls[0].arguments[0].value
    assert [type(item) for item in value] == [int, float, int]
    assert value == [2, 2.0, 1180591620717411303424]


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.1, "0.1"),
        (1e16, "1e16"),
        (2.0, "2.0"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e308"),
        (-0.0, "-0.0"),
    ],
)
def test_floats_take_their_shortest_form(number, text):
    assert f'"value":{text},' in render(trace_with(value=number))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_refused_with_their_place(number):
    with pytest.raises(TraceFormatError, match=r"^f#1\.x\.deep\[1\]: floats must be finite; "):
        render(trace_with(value={"deep": [0.0, number]}))


def test_integer_keys_are_refused_not_dropped():
    with pytest.raises(
        TraceFormatError, match=r"^scenario\.config: keys must be text; expected str, got 0$"
    ):
        render(trace_with(config={0: 1}))


def test_unknown_objects_are_refused_not_repr():
    with pytest.raises(TraceFormatError, match=r"must be plain JSON; expected JSON, got set$"):
        render(trace_with(value=[{1}]))


def test_values_that_nest_without_end_are_refused():
    endless: list = []
    endless.append(endless)

    with pytest.raises(TraceFormatError, match="values must not nest too deep"):
        render(trace_with(value=endless))


def test_key_order_is_kept_not_sorted():
    assert '"config":{"b":1,"a":2}' in render(trace_with(config={"b": 1, "a": 2}))


def test_plain_config_makes_enums_and_tuples_plain():
    class Layout(StrEnum):
        FIRST = "layer_first"

    plain = plain_config({"layout": Layout.FIRST, "shape": (1, 2)})

    assert plain == {"layout": "layer_first", "shape": [1, 2]}
    assert type(plain["layout"]) is str


def test_crlf_and_byte_order_mark_are_read_but_are_not_canonical():
    trace = parse(TEXT)

    assert is_canonical(TEXT.encode(), trace)
    for crooked in (TEXT.replace("\n", "\r\n"), "\ufeff" + TEXT, TEXT.replace(":64", ": 64")):
        assert parse(crooked) == trace
        assert not is_canonical(crooked.encode(), trace)


FOREIGN = "t: schema must be known; expected goldentrace.trace/2, got "
OLDER = (
    "t: schema must not be an older one; expected goldentrace.trace/2, as "
    "`goldentrace regenerate --reason TEXT` or `pytest --golden-update` writes, "
    "got goldentrace.trace/1"
)
NOT_JSON = "t: must be one complete JSON document; expected JSON, got "
REPEATED = "t: keys must not repeat; expected one of each, got "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", NOT_JSON + "Input data was truncated"),
        (TEXT[:200], NOT_JSON + "Input data was truncated"),
        (TEXT[:-3], NOT_JSON + "Input data was truncated"),
        ("[]", FOREIGN + "list"),
        ("{}", FOREIGN + "no schema"),
        ('{"schema":"goldentrace.verdict/1"}', FOREIGN + "goldentrace.verdict/1"),
        (TEXT.replace("trace/2", "trace/3"), FOREIGN + "goldentrace.trace/3"),
        (TEXT.replace("trace/2", "trace/1"), OLDER),
        ('{"schema":"goldentrace.trace/1","calls":[{"call":"f#1"}]}', OLDER),
        (TEXT.replace('"ok":true', '"ok":true,"new":1'), "Object contains unknown field `new`"),
        (TEXT.replace(',"failed_step":""', ""), "Object missing required field `failed_step`"),
        (TEXT.replace('"ok":true', '"ok":1'), "Expected `bool`, got `int` - at `$.outcome.ok`"),
        (TEXT.replace('"record"', '"teleport"'), "Invalid value 'teleport' - at `$.events[0]"),
        (TEXT.replace('"ok":true', '"ok":true,"ok":true'), REPEATED + "'ok' again"),
        (TEXT.replace("64", '64,\n"page_size":1'), REPEATED + "'page_size' again"),
        (TEXT.replace("64", "NaN"), NOT_JSON),
        (TEXT + "{}", "trailing characters"),
        ("[" * 100_000, NOT_JSON),
    ],
)
def test_parse_refuses_what_is_no_trace_in_one_line(text, message):
    with pytest.raises(TraceFormatError) as caught:
        parse(text, subject="t")

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("marker", ["<<<<<<< HEAD", "=======", ">>>>>>> branch", "||||||| base"])
def test_parse_refuses_merge_conflicts_with_the_line(marker):
    lines = TEXT.splitlines()
    conflicted = "\n".join([*lines[:3], marker, *lines[3:]])

    with pytest.raises(TraceFormatError) as caught:
        parse(conflicted, subject="one.json")

    assert str(caught.value) == (
        f"one.json: must not hold a merge conflict; expected a trace, got {marker.split()[0]} "
        "on line 4"
    )


def test_conflict_markers_inside_a_message_are_no_conflict():
    trace = trace_with(value="<<<<<<< HEAD\n=======\n")

    assert parse(render(trace)) == trace


def test_lone_surrogates_are_refused():
    with pytest.raises(TraceFormatError):
        render(trace_with(value="\ud800"))


def test_hundred_thousand_events_come_back():
    trace = trace_with(events=(RECORD,) * 100_000)

    assert parse(render(trace)).events == trace.events


SITES = Sites(
    calls={"f#1": Location(file="assembler/stacks.py", line=3)},
    definitions={},
    events=(None, Location(file="a.py", line=1)),
)


def test_sites_are_kept_beside_the_trace_and_read_with_it(tmp_path):
    recording = Recording(trace=trace_with(), sites=SITES)

    path = tmp_path / "one.json"
    path.write_text(render(recording.trace))
    sites_path_of(path).write_text(render_sites(SITES))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.json", "one.sites.json"]
    assert read_recording(tmp_path / "one.json") == recording
    assert parse_sites(render_sites(SITES)) == SITES


def test_golden_without_sites_is_read_without_sites(tmp_path):
    (tmp_path / "one.json").write_text(render(trace_with()))

    assert read_recording(tmp_path / "one.json").sites is None


def test_sites_that_are_none_are_refused(tmp_path):
    with pytest.raises(
        TraceFormatError, match="sites: must fit the schema; expected a valid Sites"
    ):
        parse_sites("{}")


def test_read_trace_names_the_file(tmp_path):
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe")

    with pytest.raises(TraceFormatError, match=r"bad\.json: must be UTF-8"):
        read_trace(tmp_path / "bad.json")
    with pytest.raises(TraceFormatError, match=r"none\.json: must be readable; expected a file"):
        read_trace(tmp_path / "none.json")


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "deep" / "one.json"

    write_atomic(path, "old\n")
    write_atomic(path, "new\n")

    assert path.read_bytes() == b"new\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["one.json"]


def test_write_atomic_keeps_the_usual_permissions(tmp_path):
    write_atomic(tmp_path / "one.json", "x")
    (tmp_path / "two.json").write_text("x")

    assert (tmp_path / "one.json").stat().st_mode == (tmp_path / "two.json").stat().st_mode


def test_write_atomic_writes_through_a_symbolic_link(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")

    write_atomic(tmp_path / "link.json", "new")

    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"


def test_interrupted_write_keeps_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "one.json"
    write_atomic(path, "old")

    def broken(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(GoldenWriteError) as caught:
        write_atomic(path, "new")

    assert str(caught.value).endswith(
        "one.json: must be writable; expected a writable directory, got No space left on device"
    )
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["one.json"]


def test_unwritable_directory_gives_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("a file where a directory should be")

    with pytest.raises(GoldenWriteError, match="expected a writable directory, got ") as caught:
        write_atomic(tmp_path / "file" / "one.json", "x")

    assert "\n" not in str(caught.value)
