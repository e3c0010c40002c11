"""What a trace says against itself."""

import msgspec

from tools.gate.self_checks import failed_checks
from traces.schema.model import RoundTrip
from traces.schema.races import Race, RaceAccess


def test_sound_trace_has_no_complaint(make_trace):
    assert failed_checks(make_trace("a")) == ()


def test_rows_that_did_not_come_back_are_a_complaint(broken_trace):
    assert failed_checks(broken_trace("a")) == (
        "a: a round trip must restore every row; expected none wrong, got 65 of KV in step 'load'",
    )


def test_foreign_rows_that_were_touched_are_a_complaint(make_trace):
    trip = RoundTrip(
        step="load", pool="SWA", plane="", equal=True, wrong_slots="", foreign_slots="7-9"
    )
    trace = msgspec.structs.replace(make_trace("a"), digests=(trip,))
    [line] = failed_checks(trace)
    assert line.startswith("a: a load must leave other slots alone; expected none touched, got 7-9")


def test_race_is_a_complaint(make_trace):
    race = Race(
        step="reload",
        pool="KV",
        buffer="kv",
        layer=0,
        first=RaceAccess(operation="load", accessor="", on="stream", access="write"),
        second=RaceAccess(operation="attention", accessor="", on="stream", access="read"),
        text="one and another",
    )
    trace = msgspec.structs.replace(make_trace("a"), events=(race,))
    assert failed_checks(trace) == (
        "a: accesses must be ordered; expected no race, got one and another in step 'reload'",
    )


def test_failed_outcome_is_a_complaint(failed_trace):
    assert failed_checks(failed_trace("a")) == (
        "a: must end well; expected outcome ok, got ValueError: no in step 'build'",
    )
