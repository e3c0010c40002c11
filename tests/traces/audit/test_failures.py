"""Scenarios that end with an exception."""

from traces.audit import audit
from traces.audit.failures import failed_scenarios
from traces.schema.model import Failure, Location, Outcome


def failed(message):
    failure = Failure(type="TypeError", message=message)
    return Outcome(ok=False, failed_step="build", failure=failure)


def test_a_scenario_that_ends_well_is_no_finding(made):
    assert failed_scenarios({"a": made.recording("a")}) == ()


def test_a_failure_names_its_line_and_its_message(made):
    site = Location(file="assembler/stacks/attach.py", line=44)
    recording = made.recording("a", outcome=failed("no keyword 'pp_rank'"), failure=site)
    [found] = failed_scenarios({"a": recording})
    assert str(found.kind) == "outcome_changed"
    assert found.after == "TypeError: no keyword 'pp_rank'"
    assert (found.location.file, found.location.line) == ("assembler/stacks/attach.py", 44)


def test_failures_that_differ_in_numbers_are_one(made):
    recordings = {
        "a": made.recording("a", outcome=failed("row 639")),
        "b": made.recording("b", outcome=failed("row 640")),
    }
    assert {found.where for found in failed_scenarios(recordings)} == {"build: TypeError: row *"}


def test_scenario_that_declares_a_mistake_is_left_out_of_the_audit(made):
    failing = failed("no keyword 'pp_rank'")
    refused = made.recording("a", config={"mistake": "row_bytes"}, outcome=failing)
    audited = made.recording("b", outcome=failing)
    [found] = audit({"a": refused, "b": audited}, recorded={})
    assert found.scenarios == ("b",)
