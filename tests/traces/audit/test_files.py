"""Files beside an audit: reasons for findings, and lineage."""

import pytest

from traces.audit import audit
from traces.audit.files import (
    outdated_keys,
    parse_baseline,
    parse_lineage,
    render_lineage,
    unknown_findings,
)
from traces.audit.finding import finding_key
from traces.errors import TraceFormatError

BASELINE = """
schema = "goldentrace.baseline/1"

[findings]
"parameter_blind_spot Host.x" = "the code knows one value only"
"""
LINEAGE = {
    "Controller.limit": {"build_a": ("entry.threshold",), "build_b": ("constant 256",)},
    "Host.layout": {"build_a": ("config.layout",), "build_b": ("config.layout",)},
}


@pytest.fixture
def blind(made):
    """Findings about two parameters of one value."""
    return audit({"a": made.recording("a", made.call("Host#1", {"x": 1, "y": 1}))}, recorded={})


def test_known_findings_are_left_out_and_the_others_stay(blind):
    baseline = parse_baseline(BASELINE, subject="b")
    assert [str(finding_key(cause)) for cause in blind] == [
        "parameter_blind_spot Host.x",
        "parameter_blind_spot Host.y",
    ]
    assert [cause.where for cause in unknown_findings(blind, baseline=baseline)] == ["Host.y"]


def test_a_known_finding_that_is_gone_is_told(blind):
    baseline = parse_baseline(BASELINE, subject="b")
    assert outdated_keys(blind, baseline=baseline) == ()
    assert list(map(str, outdated_keys((), baseline=baseline))) == ["parameter_blind_spot Host.x"]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("[findings", "must be TOML"),
        ("[findings]", "must have this schema"),
        (BASELINE.replace("the code knows one value only", " "), "must have a reason"),
        (BASELINE.replace("parameter_blind_spot", "blind"), "must begin with its kind"),
        (BASELINE.replace('"the code knows one value only"', "3"), "must have a reason"),
        ('schema = "goldentrace.baseline/1"\nfindings = 3', "must hold its findings in one table"),
    ],
)
def test_a_text_that_is_no_baseline_is_refused_in_one_line(text, rule):
    with pytest.raises(TraceFormatError, match=rule) as refused:
        parse_baseline(text, subject="b")
    assert "\n" not in str(refused.value)


def test_lineage_reads_as_it_was_written():
    text = render_lineage(LINEAGE)
    assert parse_lineage(text, subject="l", entries=["build_a", "build_b"]) == LINEAGE


def test_entries_that_agree_are_one_line():
    assert render_lineage(LINEAGE) == (
        'schema = "goldentrace.lineage/1"\n'
        "\n"
        '["Controller.limit"]\n'
        '"build_a" = ["entry.threshold"]\n'
        '"build_b" = ["constant 256"]\n'
        "\n"
        '["Host.layout"]\n'
        '"*" = ["config.layout"]\n'
    )


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('schema = "goldentrace.lineage/2"', "must have this schema"),
        ('schema = "goldentrace.lineage/1"\n"Host.x" = 3', "must be a table"),
        ('schema = "goldentrace.lineage/1"\n["Host.x"]\na = "b"', "must list its sources"),
    ],
)
def test_a_text_that_is_no_lineage_is_refused(text, rule):
    with pytest.raises(TraceFormatError, match=rule):
        parse_lineage(text, subject="l", entries=[])
