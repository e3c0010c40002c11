"""Evidence and confidence of findings."""

import msgspec
import pytest

from traces.audit import audit
from traces.schema.model import Failure, Location, Outcome


def judged(recording, kind):
    return next(one for one in audit({"a": recording}, recorded={}) if one.kind == kind)


def test_rows_that_came_back_wrong_are_certain_and_name_slots(made):
    found = judged(
        made.recording(
            "a", events=[made.transfer()], digests=[made.trip(wrong="64-95", foreign="7")]
        ),
        "stale_after_restore",
    )

    assert found.confidence == "certain"
    assert found.evidence == "slots 64-95 wrong, slots 7 overwritten beside; in a"


def test_rows_that_nothing_moved_are_likely(made):
    found = judged(made.recording("a", digests=[made.trip(wrong="64")]), "declared_not_assembled")

    assert found.confidence == "likely"


def siblings(made, *, outcome=None):
    return made.recording(
        "a",
        made.call("build_a_stack#1", {}, role="builder"),
        made.call("Host#1", {"width": 656}, parent="build_a_stack#1"),
        made.call("build_b_stack#1", {}, role="builder"),
        made.call("Host#2", {}, parent="build_b_stack#1", left_out={"width": None}, line=9),
        outcome=outcome,
    )


def test_a_wiring_that_nothing_depends_on_is_possible(made):
    found = judged(siblings(made), "sibling_disagreement")

    assert found.confidence == "possible"
    assert found.evidence == "expected 656, got null; assembler/stacks.py:9; in a"


def test_a_wiring_in_a_scenario_with_a_certain_finding_is_likely(made):
    failure = Failure(type="RuntimeError", message="sizes differ")
    outcome = Outcome(ok=False, failed_step="build", failure=failure)

    assert judged(siblings(made, outcome=outcome), "sibling_disagreement").confidence == "likely"


@pytest.mark.parametrize(
    ("kind", "confidence"),
    [("AssertionError", "possible"), ("ValueError", "possible"), ("TypeError", "certain")],
)
def test_an_exception_that_refuses_on_purpose_is_possible(made, kind, confidence):
    failure = Failure(type=kind, message="Unsupported layout")
    outcome = Outcome(ok=False, failed_step="build", failure=failure)
    recording = made.recording(
        "a", outcome=outcome, failure=Location(file="assembler/pool.py", line=3)
    )

    assert judged(recording, "outcome_changed").confidence == confidence


@pytest.mark.parametrize(("equal", "confidence"), [(False, "certain"), (True, "likely")])
def test_a_reader_that_does_not_wait_is_certain_once_it_read_stale_rows(made, equal, confidence):
    race = made.race(accessor="get_key_buffer")
    recording = made.recording(
        "a", events=[race], digests=[made.reading("get_key_buffer", equal=equal)]
    )

    assert judged(recording, "read_before_ready").confidence == confidence


def test_a_race_is_found_at_the_line_that_launched_it(made):
    recording = made.recording("a", events=[made.race()])
    sites = msgspec.structs.replace(
        recording.sites, events=(Location(file="assembler/transfer/engine.py", line=86),)
    )
    found = judged(msgspec.structs.replace(recording, sites=sites), "read_before_ready")

    assert found.location == Location(file="assembler/transfer/engine.py", line=86)
