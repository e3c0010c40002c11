"""Scenarios that end with an exception."""

import msgspec

from traces.audit import audit
from traces.audit.failures import failed_scenarios
from traces.schema.model import Failure, Location, Outcome


def failed(message, *, rule=""):
    failure = Failure(type="TypeError", message=message, subject="KV" if rule else "", rule=rule)
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


def wheres(*recordings):
    found = failed_scenarios(dict(zip("abc", recordings, strict=False)))
    return {one.where for one in found}


def test_failures_that_break_one_rule_of_one_subject_are_one(made):
    one = made.recording("a", outcome=failed("KV: row must fit; got 639", rule="row must fit"))
    other = made.recording("b", outcome=failed("KV: row must fit; got 640", rule="row must fit"))
    third = made.recording("c", outcome=failed("KV: page must fit", rule="page must fit"))

    assert wheres(one, other) == {"build: TypeError: KV: row must fit"}
    assert wheres(one, third) == {
        "build: TypeError: KV: row must fit",
        "build: TypeError: KV: page must fit",
    }


def test_failures_without_a_rule_are_told_apart_by_the_innermost_callee_that_they_left(made):
    def recording(name, callee, message):
        outcome = failed(message)
        outer, line = made.call("build_stack#1", {}, role="builder")
        inner, _ = made.call(f"{callee}#1", {}, parent="build_stack#1")
        calls = [
            (msgspec.structs.replace(call, raises=outcome.failure), line) for call in (outer, inner)
        ]
        return made.recording(name, *calls, outcome=outcome)

    hosts = recording("a", "Host", "row 639"), recording("b", "Host", "another text")

    assert wheres(*hosts) == {"build: TypeError: in Host"}
    assert wheres(hosts[0], recording("b", "Device", "row 639")) == {
        "build: TypeError: in Host",
        "build: TypeError: in Device",
    }


def test_scenario_that_declares_a_mistake_is_left_out_of_the_audit(made):
    failing = failed("no keyword 'pp_rank'")
    refused = made.recording("a", config={"mistake": "row_bytes"}, outcome=failing)
    audited = made.recording("b", outcome=failing)
    [found] = audit({"a": refused, "b": audited}, recorded={})
    assert found.scenarios == ("b",)
