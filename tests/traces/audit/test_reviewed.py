"""Findings of releases that were decided by reading their source."""

import pytest

from traces.audit import audit
from traces.audit.reviewed import parse_reviews, sort_findings
from traces.errors import TraceFormatError

REVIEWS = """
schema = "goldentrace.reviewed/1"

[[review]]
kind = "declared_not_assembled"
subject = "build_*: device.KV.kv_buffer"
verdict = "fault"
reason = "rows of the pool are never moved"
line = "pool.py:7"
releases = ["0.5.22", "0.5.23"]
name = "SGL-99"

[[review]]
kind = "parameter_blind_spot"
subject = "Host.x"
verdict = "by design"
reason = "the release knows one value only"
line = "host.py:3"
releases = ["0.5.23"]
"""


@pytest.fixture
def findings(made):
    recording = made.recording(
        "a", made.call("Host#1", {"x": 1, "y": 1}), digests=[made.trip(wrong="64")]
    )
    return audit({"a": recording}, recorded={})


def wheres(causes):
    return [cause.where for cause in causes]


def test_findings_are_sorted_by_their_review(findings):
    found = sort_findings(findings, parse_reviews(REVIEWS, subject="r"), "0.5.23")

    [(fault, wrong)] = found.faults
    assert fault.where == "build_kv_only_stack: device.KV.kv_buffer"
    assert wrong == "rows of the pool are never moved"
    assert wheres(found.settled) == ["Host.x"]
    assert wheres(found.open) == ["Host.y"]
    assert fault.message.endswith("Reviewed: SGL-99: rows of the pool are never moved (pool.py:7).")


def test_a_review_speaks_of_the_releases_that_were_read_only(findings):
    found = sort_findings(findings, parse_reviews(REVIEWS, subject="r"), "0.5.22")

    assert [cause.where for cause, _ in found.faults] == [
        "build_kv_only_stack: device.KV.kv_buffer"
    ]
    assert wheres(found.open) == ["Host.x", "Host.y"]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("review = [", "must hold reviews"),
        (REVIEWS.replace("reason", "why"), "must hold reviews"),
        (REVIEWS.replace("reviewed/1", "reviewed/7"), "must have this schema"),
        (REVIEWS.replace("declared_not_assembled", "declared"), "must hold reviews"),
        (REVIEWS.replace('"by design"', '"fine"'), "must hold reviews"),
    ],
)
def test_a_text_that_holds_no_reviews_is_refused_in_one_line(text, rule):
    with pytest.raises(TraceFormatError, match=rule) as refused:
        parse_reviews(text, subject="traces/baseline/sglang/x.toml")
    assert "\n" not in str(refused.value)
