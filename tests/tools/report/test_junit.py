"""A verdict as JUnit XML."""

from xml.etree import ElementTree as ET

from tests.tools.report.verdicts import ADDED, DROPPED, UNCOVERED, verdict
from tools.report.render import Format, render_verdict
from traces.schema.verdict import Verdict


def suite(of: Verdict, *, strict: bool = False) -> ET.Element:
    text = render_verdict(of, form=Format.JUNIT, strict=strict)
    [found] = ET.fromstring(text)
    return found


def outcomes(of: Verdict, *, strict: bool = False) -> dict[str, list[str]]:
    """Return the results of every test, by its name."""
    cases = suite(of, strict=strict).findall("testcase")
    return {case.attrib["name"]: [one.tag for one in case] for case in cases}


def test_every_scenario_is_a_test():
    assert outcomes(verdict()) == {"gemma": [], "llama": [], "nsa_fp8": [], "verdict": []}


def test_scenario_fails_with_its_causes_and_the_others_pass():
    of = verdict(DROPPED, ADDED)
    assert outcomes(of) == {
        "gemma": [],
        "llama": ["system-out"],
        "nsa_fp8": ["failure", "system-out"],
        "verdict": [],
    }
    found = suite(of)
    assert (found.attrib["tests"], found.attrib["failures"]) == ("4", "1")
    failure = found.find("testcase[@name='nsa_fp8']/failure")
    assert failure is not None
    assert failure.attrib["type"] == "argument_dropped"
    assert failure.attrib["message"] == "override_kv_cache_dim 656 -> nothing"
    assert (failure.text or "").splitlines()[:2] == ["argument_dropped", "assembler/stacks.py:123"]


def test_interface_difference_fails_only_when_strict():
    assert outcomes(verdict(ADDED))["llama"] == ["system-out"]
    assert outcomes(verdict(ADDED), strict=True)["llama"] == ["failure"]


def test_cause_without_a_scenario_fails_the_verdict():
    assert outcomes(verdict(UNCOVERED))["verdict"] == ["failure"]


def test_problem_is_an_error_whose_text_is_escaped():
    of = verdict(problems=("a: <golden> & more",))
    assert outcomes(of)["verdict"] == ["error"]
    error = suite(of).find("testcase[@name='verdict']/error")
    assert error is not None
    assert error.text == "a: <golden> & more"
