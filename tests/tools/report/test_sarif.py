"""A verdict as SARIF, read by a model of the format that is not ours."""

import json

import msgspec
import pytest
from sarif_pydantic import Sarif

from tests.tools.report.verdicts import ADDED, DROPPED, UNCOVERED, verdict
from tools.report.render import Format, render_verdict
from traces.schema.model import Location
from traces.schema.verdict import Verdict


def sarif(of: Verdict, *, strict: bool = False) -> str:
    return render_verdict(of, form=Format.SARIF, strict=strict)


@pytest.mark.parametrize(
    "of", [verdict(), verdict(DROPPED, ADDED, UNCOVERED), verdict(problems=("a: bad",))]
)
def test_another_reader_accepts_it(of):
    read = Sarif.model_validate_json(sarif(of))
    assert read.version == "2.1.0"
    assert len(read.runs[0].results or ()) == len(of.causes)


def test_another_reader_refuses_what_is_no_sarif():
    with pytest.raises(ValueError, match="validation error"):
        Sarif.model_validate_json('{"version": "2.1.0"}')


def test_result_stands_on_the_line_of_the_cause():
    [run] = json.loads(sarif(verdict(DROPPED)))["runs"]
    [result] = run["results"]
    assert result["ruleId"] == "argument_dropped"
    assert result["level"] == "error"
    assert result["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "assembler/stacks.py", "uriBaseId": "%SRCROOT%"},
                "region": {"startLine": 123},
            }
        }
    ]
    assert result["message"]["text"].splitlines() == [
        "override_kv_cache_dim 656 -> nothing",
        "build_shared_anchor_stack -> MLATokenToKVPoolHost",
        "override_kv_cache_dim is no longer given.",
        "shape_changed host.KV.kv_buffer [2,656] -> [2,576] (3 times)",
        "1 scenario: nsa_fp8",
    ]


def test_rules_are_the_kinds_that_occur_with_their_explanations():
    [run] = json.loads(sarif(verdict(DROPPED, ADDED, ADDED)))["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [
        "argument_dropped",
        "call_added",
    ]
    assert [result["ruleIndex"] for result in run["results"]] == [0, 1, 1]
    assert run["tool"]["driver"]["rules"][0]["shortDescription"]["text"] == (
        "Argument no longer passed"
    )


def test_interface_difference_is_a_warning_unless_strict():
    def level(text: str) -> str:
        return json.loads(text)["runs"][0]["results"][0]["level"]

    assert level(sarif(verdict(ADDED))) == "warning"
    assert level(sarif(verdict(ADDED), strict=True)) == "error"


def test_fingerprint_stays_when_the_line_moves_and_changes_with_the_parameter():
    def fingerprint(cause):
        [result] = json.loads(sarif(verdict(cause)))["runs"][0]["results"]
        return result["partialFingerprints"]["goldentraceCause/v1"]

    moved = msgspec.structs.replace(DROPPED, location=Location(file="assembler/x.py", line=7))
    other = msgspec.structs.replace(DROPPED, parameter="page_size")
    assert fingerprint(moved) == fingerprint(DROPPED)
    assert fingerprint(other) != fingerprint(DROPPED)


def test_problem_is_a_notification_of_a_run_that_failed():
    [run] = json.loads(sarif(verdict(problems=("a: golden must be readable",))))["runs"]
    [invocation] = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert invocation["toolExecutionNotifications"] == [
        {"level": "error", "message": {"text": "a: golden must be readable"}}
    ]
